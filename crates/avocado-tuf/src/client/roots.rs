//! The newest root: one for all repositories under the same trust anchor.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use super::TufError;
use super::store::MetadataStore;
use crate::keys::PublicKey;
use crate::metadata::{
    KeySet, MetadataKind as _, RoleAuthority, RoleKeys, RootMetadata, UnverifiedMetadata,
};
use crate::metadata_error::MetadataError;

/// A root that is trusted.
pub(super) struct TrustedRoot {
    pub(super) root: RootMetadata,
    pub(super) bytes: Vec<u8>,
}

impl TrustedRoot {
    fn parse(bytes: Vec<u8>) -> Result<Self, MetadataError> {
        let root = UnverifiedMetadata::parse(&bytes)?.verify_root(None)?;
        Ok(TrustedRoot { root, bytes })
    }
}

/// Takes up the newest root that was reached from `anchor` and is stored in `root_directory`, or in
/// one of `others`, where older versions of this crate kept it for each repository apart; stores it
/// in `root_directory`, and gives its bytes. Where there is none it is `anchor`.
///
/// # Errors
/// [`TufError::Anchor`], and [`TufError::Io`] when a file cannot be read or written.
pub fn newest_root(
    root_directory: &Path,
    anchor: &[u8],
    others: &[PathBuf],
) -> Result<Vec<u8>, TufError> {
    Ok(take_up(root_directory, anchor, others)?.bytes)
}

/// The root that [`newest_root`] would take up; none where nothing was reached from `anchor` yet.
/// Changes nothing.
///
/// # Errors
/// [`TufError::Io`] when a file cannot be read.
pub fn stored_root(
    root_directory: &Path,
    anchor: &[u8],
    others: &[PathBuf],
) -> Result<Option<Vec<u8>>, TufError> {
    Ok(newest(root_directory, anchor, others)?.map(|root| root.bytes))
}

/// Makes sure that `root` is the root of a repository, and that one of the `trusted` keys is a key of
/// its role that signed it: for who knows a key and has no trust anchor.
///
/// # Errors
/// [`TufError::Anchor`].
pub fn check_root_of(root: &[u8], trusted: &[PublicKey]) -> Result<(), TufError> {
    let check = || {
        let own = UnverifiedMetadata::parse(root)?.verify_root(None)?;
        let keys = own.keys.0.into_iter();
        let known = KeySet(keys.filter(|(_, key)| trusted.contains(key)).collect());
        let role = RoleKeys {
            threshold: NonZeroU64::MIN,
            ..own.roles.root
        };
        let authority = RoleAuthority {
            keys: &known,
            role: &role,
        };
        UnverifiedMetadata::parse(root)?.verify::<RootMetadata>(&[authority])
    };
    check().map(drop).map_err(TufError::Anchor)
}

pub(super) fn take_up(
    root_directory: &Path,
    anchor: &[u8],
    others: &[PathBuf],
) -> Result<TrustedRoot, TufError> {
    let own = TrustedRoot::parse(anchor.to_vec()).map_err(TufError::Anchor)?;
    let newest = newest(root_directory, anchor, others)?.unwrap_or(own);
    let roots = MetadataStore::at(root_directory.to_owned());
    roots.write_root(&newest.bytes, anchor)?;
    Ok(newest)
}

fn newest(
    root_directory: &Path,
    anchor: &[u8],
    others: &[PathBuf],
) -> Result<Option<TrustedRoot>, TufError> {
    let mut newest: Option<TrustedRoot> = None;
    let others = others.iter().map(PathBuf::as_path);
    for directory in std::iter::once(root_directory).chain(others) {
        let stored = MetadataStore::at(directory.to_owned()).root(anchor)?;
        // One that is torn is none.
        let Some(root) = stored.and_then(|bytes| TrustedRoot::parse(bytes).ok()) else {
            continue;
        };
        let newer = |than: &TrustedRoot| root.root.version() > than.root.version();
        if newest.as_ref().is_none_or(newer) {
            newest = Some(root);
        }
    }
    Ok(newest)
}
