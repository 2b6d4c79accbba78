use std::path::Path;

use super::TufError;
use super::store::MetadataStore;

/// How much of what is trusted of one repository [`reset`] forgets; each forgets what the one
/// before it does as well. See [`crate::client`] for when to use which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForgetLevel {
    /// Which roles there were, and their versions. The timestamp stays, so nothing older than what
    /// was seen last is accepted afterwards: this is always safe.
    Roles,
    /// All versions. Afterwards the repository, or who is between, may once offer anything that
    /// its keys signed and that has not expired at the newest trusted time.
    Versions,
    /// The newest trusted time as well. Afterwards only the system clock says what has expired.
    Time,
}

/// Forgets trusted metadata in `directory`, a [`TrustedMetadata::directory`](super::TrustedMetadata::directory)
/// that no client uses now. Nothing happens where there is none.
///
/// Never forgotten is the newest root: keys that were replaced stay replaced.
///
/// # Errors
/// [`TufError::Io`] when a file cannot be removed. The reset may then be partial, and can be repeated.
pub fn reset(directory: &Path, forget: ForgetLevel) -> Result<(), TufError> {
    if !directory.exists() {
        return Ok(());
    }
    Ok(MetadataStore::at(directory.to_owned()).forget(forget)?)
}
