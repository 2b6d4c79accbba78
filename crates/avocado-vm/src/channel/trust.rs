//! Channels that are signed: a TUF repository at `<base>/<channel>/<platform>` has the image's
//! manifest as its target `manifest.json`, and the manifest has the digest of each file. The
//! channel's index is a hint where to look.

use std::fs;
use std::path::PathBuf;

use avocado_fs::{FileLock, LockPlace, read_if_there};
use avocado_http::{NetworkSettings, RepositoryUrl};
use avocado_manifest::Digest;
use avocado_tuf::{ClientOptions, RemoteRepository, TrustedMetadata, TufClient, TufError};
use jiff::Timestamp;

use super::error::ChannelError;
use crate::dir::{StateDir, StateFile};
use crate::error::VmError;
use crate::files;
use crate::image::MANIFEST;

/// In the directory of a repository: the root that was met first.
const FIRST_ROOT: &str = "first-root.json";
/// In the same: held while its metadata may change.
const LOCK: &str = ".lock";
/// The largest root, in bytes.
const LARGEST: u64 = 1 << 20;

/// What is believed of one channel.
#[derive(Debug)]
pub(super) struct ChannelTrust {
    repository: RepositoryUrl,
    directory: PathBuf,
    pinned: Option<Vec<u8>>,
}

/// A channel whose metadata was verified.
pub(super) struct SignedChannel {
    repository: RepositoryUrl,
    client: TufClient,
    _lock: FileLock,
}

impl ChannelTrust {
    /// That of the channel with this repository; `pinned` is the root that the user names.
    pub(super) fn of(dir: &StateDir, repository: &RepositoryUrl, pinned: Option<&[u8]>) -> Self {
        let all = dir.file(StateFile::ChannelTrust);
        ChannelTrust {
            directory: all.join(Digest::of(repository.as_str().as_bytes()).to_string()),
            repository: repository.clone(),
            pinned: pinned.map(<[u8]>::to_vec),
        }
    }

    /// The root that the channel has to be signed under: the one that the user names, or that of the
    /// first time that it was signed. From then on nothing unsigned is taken.
    pub(super) fn anchor(&self) -> Result<Option<Vec<u8>>, VmError> {
        if let Some(pinned) = &self.pinned {
            return Ok(Some(pinned.clone()));
        }
        Ok(read_if_there(&self.directory.join(FIRST_ROOT), LARGEST)?)
    }

    /// Where the first root is of a channel that was not signed before.
    pub(super) fn first_root_url(&self) -> String {
        self.repository.join("metadata/1.root.json")
    }

    /// Fetches and verifies what the channel is signed with.
    pub(super) fn open(
        &self,
        anchor: &[u8],
        network: &NetworkSettings,
        now: Timestamp,
    ) -> Result<SignedChannel, VmError> {
        files::create_dir(&self.directory)?;
        let lock = LockPlace::file(&self.directory.join(LOCK)).lock()?;
        let part = |name| {
            let part = self.repository.below(name);
            part.map_err(|source| ChannelError::Base {
                url: self.repository.to_string(),
                source,
            })
        };
        let remote = RemoteRepository {
            metadata_url: part("metadata")?,
            targets_url: part("targets")?,
            auth_token: None,
        };
        let trusted = TrustedMetadata {
            directory: self.directory.join("metadata"),
            root_directory: self.directory.join("metadata"),
            root: anchor.to_vec(),
        };
        let options = ClientOptions {
            start_time: now,
            limits: Default::default(),
            relax_legacy: false,
        };
        let client = TufClient::open_over(network, trusted, remote, options);
        let client = client.and_then(|mut client| client.refresh().map(|()| client));
        Ok(SignedChannel {
            client: client.map_err(|source| untrusted(&self.repository, source))?,
            repository: self.repository.clone(),
            _lock: lock,
        })
    }

    /// Remembers the root under which a channel was verified.
    pub(super) fn remember(&self, anchor: &[u8]) -> Result<(), VmError> {
        let path = self.directory.join(FIRST_ROOT);
        // A root that is pinned is for the user to take back.
        if self.pinned.is_some() || fs::exists(&path).is_ok_and(|there| there) {
            return Ok(());
        }
        files::write(&path, anchor)
    }
}

impl SignedChannel {
    /// That this manifest, which `url` answered, is the one that was signed last.
    pub(super) fn check(&mut self, url: &str, manifest: &[u8]) -> Result<(), VmError> {
        let target = self.client.target(MANIFEST);
        let target = target.map_err(|source| untrusted(&self.repository, source))?;
        let signed = target.is_some_and(|target| {
            target.length == manifest.len() as u64
                && target.digests.sha256 == Some(Digest::of(manifest))
        });
        if signed {
            return Ok(());
        }
        let url = url.to_owned();
        Err(ChannelError::NotSigned { url }.into())
    }
}

fn untrusted(repository: &RepositoryUrl, source: TufError) -> ChannelError {
    ChannelError::Untrusted {
        repository: repository.to_string(),
        source: Box::new(source),
    }
}
