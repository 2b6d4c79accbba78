use std::path::PathBuf;

use serde::Serialize;

use super::RepositoryCredentials;

/// `cache`: where results of steps are that a team shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedCache {
    /// Where it is.
    pub place: CachePlace,
    /// Who asks the server, where it does not answer everybody.
    #[serde(skip)]
    pub credentials: Option<RepositoryCredentials>,
    /// The certificates of the authorities that alone vouch for the server, as a file in PEM.
    pub ca: Option<PathBuf>,
    /// Whether what is made here goes there.
    pub push: bool,
    /// The keys whose results are used: ids, or names in the registry of signing keys. Empty: all keys
    /// of the user's own registry.
    pub trusted_keys: Vec<String>,
    /// The most that a directory may take, in bytes.
    pub max_size: Option<u64>,
}

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CachePlace {
    /// The user's own directory of caches.
    User,
    /// A directory of this machine.
    Directory(PathBuf),
    /// The URL of a server, without credentials.
    Server(String),
    /// A bucket of S3, or of a server that speaks the same.
    Bucket(CacheBucket),
}

impl CachePlace {
    /// Whether it is asked over a network.
    pub fn is_remote(&self) -> bool {
        matches!(self, CachePlace::Server(_) | CachePlace::Bucket(_))
    }
}

/// A bucket that has a cache in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheBucket {
    /// Its name.
    pub name: String,
    /// What is before all names in it; may be empty.
    pub prefix: String,
    /// The URL of its server, where the project states it.
    pub endpoint: Option<String>,
    /// The region of its server, where the project states it.
    pub region: Option<String>,
}
