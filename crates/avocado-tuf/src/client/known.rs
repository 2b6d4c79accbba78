use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use super::TufError;
use super::clock;
use super::store::MetadataStore;

/// What is trusted of one repository, for people: nothing is verified to tell it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownMetadata {
    /// The version of the newest root.
    pub root: Option<u64>,
    /// The version of the newest timestamp.
    pub timestamp: Option<u64>,
    /// The version of the newest snapshot.
    pub snapshot: Option<u64>,
    /// The version of the newest targets metadata.
    pub targets: Option<u64>,
    /// The newest trusted time.
    pub time: Option<Timestamp>,
}

impl KnownMetadata {
    /// What is trusted according to `directory`, a
    /// [`TrustedMetadata::directory`](super::TrustedMetadata::directory).
    ///
    /// # Errors
    /// [`TufError::Io`] when a file cannot be read. One that cannot be understood tells nothing.
    pub fn read(directory: &Path) -> Result<Self, TufError> {
        #[derive(Deserialize)]
        struct Stored {
            signed: Signed,
        }
        #[derive(Deserialize)]
        struct Signed {
            version: u64,
        }
        let store = MetadataStore::at(directory.to_owned());
        let version = |role| -> Result<Option<u64>, TufError> {
            let bytes = store.read(role)?.unwrap_or_default();
            let stored = serde_json::from_slice::<Stored>(&bytes);
            Ok(stored.ok().map(|stored| stored.signed.version))
        };
        Ok(KnownMetadata {
            root: version("root")?,
            timestamp: version("timestamp")?,
            snapshot: version("snapshot")?,
            targets: version("targets")?,
            time: clock::parse(&store.clock()?.unwrap_or_default()).map(|(time, _)| time),
        })
    }
}
