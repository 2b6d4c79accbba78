//! What the device trusts of each repository. Versions of two repositories under one root are not
//! comparable, so each has a directory of its own, named by the digest of its URL.

use std::path::{Path, PathBuf};

use avocado_events::Sink;
use avocado_manifest::Digest;
use avocado_tuf::client::{self, Known};
use avocado_tuf::{Error as TufError, Forget};

use crate::store::files;
use crate::{Cancel, Device, Error, Reason};

/// The file that says the URL.
const URL: &str = "url";

/// The longest URL that is read, in bytes.
const URL_LIMIT: u64 = 64 << 10;

/// A repository of which something is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repository {
    /// Its URL. None where an older version of this program was the last to use it.
    pub url: Option<String>,
    /// What is trusted of it.
    pub known: Known,
}

impl Device {
    /// The repositories of which something is trusted, by URL.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn repositories(&self) -> Result<Vec<Repository>, Error> {
        let metadata = self.paths().base.join("metadata");
        let mut all = Vec::new();
        for name in files::names(&metadata).map_err(Error::Store)? {
            let directory = metadata.join(&name);
            if name.parse::<Digest>().is_err() || !directory.is_dir() {
                continue;
            }
            let url = files::read(&directory.join(URL), URL_LIMIT).ok();
            let url = url.and_then(|bytes| String::from_utf8(bytes).ok());
            let named = url.as_deref().unwrap_or(&name);
            all.push(Repository {
                known: client::known(&directory).map_err(|e| failed(named, e))?,
                url,
            });
        }
        all.sort_by(|a, b| a.url.cmp(&b.url));
        Ok(all)
    }

    /// Forgets what is trusted of a repository, so that one that was set up anew at the same URL is
    /// accepted again: see [`avocado_tuf::client`] for what is given up with it. The trust anchor
    /// and the roots that followed it stay. Returns whether there was anything.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn forget_repository(
        &self,
        url: &str,
        forget: Forget,
        sink: &dyn Sink,
    ) -> Result<bool, Error> {
        let directory = directory(&self.paths().base, url);
        if !directory.is_dir() {
            return Ok(false);
        }
        let _downloads = self.downloads(&Cancel::new(), sink).map_err(Error::Store)?;
        client::reset(&directory, forget).map_err(|e| failed(url, e))?;
        Ok(true)
    }
}

impl Error {
    /// The repository whose metadata contradicts what was trusted before, and what would have to be
    /// forgotten of it, if somebody has set it up anew and this is no attack:
    /// [`Device::forget_repository`].
    pub fn forgettable(&self) -> Option<(&str, Forget)> {
        let Error::Staging(Reason::Repository { url, source }) = self else {
            return None;
        };
        let forget = match &**source {
            TufError::Vanished { .. } => Forget::Roles,
            // Never forgotten.
            TufError::Rollback { role, .. } if role == "root" => return None,
            TufError::Rollback { role, .. } if role != "timestamp" && role != "snapshot" => {
                Forget::Roles
            }
            TufError::Rollback { .. } | TufError::Changed { .. } => Forget::Versions,
            _ => return None,
        };
        Some((url, forget))
    }
}

/// Where the trusted metadata of a repository is.
pub(crate) fn directory(base: &Path, url: &str) -> PathBuf {
    let url = url.trim_end_matches('/');
    base.join("metadata")
        .join(Digest::of(url.as_bytes()).to_string())
}

/// Writes down which repository a directory is of.
pub(crate) fn name(directory: &Path, url: &str) -> Result<(), Reason> {
    let path = directory.join(URL);
    match files::read(&path, URL_LIMIT) {
        Ok(there) if there == url.as_bytes() => Ok(()),
        _ => files::write(&path, url.as_bytes()),
    }
}

fn failed(url: &str, source: TufError) -> Error {
    Error::Store(Reason::Repository {
        url: url.to_owned(),
        source: Box::new(source),
    })
}
