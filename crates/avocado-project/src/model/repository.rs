use std::fmt;
use std::path::PathBuf;

use avocado_manifest::Name;
use serde::Serialize;

use crate::place::Needed;

/// Who asks a repository that does not answer everybody. Shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct RepositoryCredentials {
    /// The user.
    pub username: String,
    /// The password, or the token that takes its place.
    pub password: String,
}

impl fmt::Debug for RepositoryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositoryCredentials")
            .finish_non_exhaustive()
    }
}

/// A repository of packages beside those of the feed: an entry of `repos`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageRepository {
    /// What dnf calls it.
    pub name: Name,
    /// As dnf takes it; without credentials.
    pub url: String,
    /// Who asks, where it does not answer everybody.
    #[serde(skip)]
    pub credentials: Option<Needed<RepositoryCredentials>>,
    /// Whether the tools are installed from it.
    pub for_sdk: bool,
    /// Whether what runs on the target is installed from it.
    pub for_target: bool,
    /// PEM file of a private CA; `None`: that of the feed counts.
    pub ca: Option<PathBuf>,
    /// False: do not verify its certificate.
    pub tls_verify: bool,
    /// File of the public keys that may sign its packages; `None`: those of the feed, if it has any.
    pub gpg_key: Option<PathBuf>,
    /// Of several that have a package, the one with the lowest number counts.
    pub priority: Option<u64>,
}
