//! What the device trusts: one root, which replaces its trust anchor at every repository alike, and
//! what it knows of each repository. Versions of two repositories under one root are not comparable,
//! so each has a directory of its own, named by the digest of its URL.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use avocado_events::{Cancel, Sink};
use avocado_http::{RepositoryUrl, without_secrets};
use avocado_manifest::Digest;
use avocado_tuf::client::{self, KnownMetadata};
use avocado_tuf::{ForgetLevel, TufError};

use crate::context::DeviceContext;
use crate::error::{DeviceError, FailureReason};
use crate::store::files;

/// The file that says the URL.
const URL: &str = "url";

/// The longest URL that is read, in bytes.
const URL_LIMIT: u64 = 64 << 10;

/// The largest trust anchor that is read, in bytes.
const ANCHOR_LIMIT: u64 = 1 << 20;

/// A repository of which something is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrustedRepository {
    /// Its URL. None where an older version of this program was the last to use it.
    pub url: Option<String>,
    /// What is trusted of it.
    pub known: KnownMetadata,
}

/// The trust anchor, as provisioning left it.
pub(crate) fn anchor(base: &Path) -> Result<Vec<u8>, FailureReason> {
    files::read(&anchor_path(base), ANCHOR_LIMIT)
}

/// Where the trust anchor is.
pub(crate) fn anchor_path(base: &Path) -> PathBuf {
    metadata(base).join("root.json")
}

/// Where the newest root is, which all repositories have in common.
pub(crate) fn root_directory(base: &Path) -> PathBuf {
    metadata(base).join("trusted-root")
}

/// Where the trusted metadata of a repository is.
pub(crate) fn directory(base: &Path, url: &RepositoryUrl) -> PathBuf {
    metadata(base).join(Digest::of(url.as_str().as_bytes()).to_string())
}

fn metadata(base: &Path) -> PathBuf {
    base.join("metadata")
}

/// The root that is trusted now: the newest that was reached from the trust anchor, or that itself;
/// none on a device that has no trust anchor.
pub(crate) fn root(context: &DeviceContext) -> Result<Option<Vec<u8>>, FailureReason> {
    let base = context.base();
    let anchor = match anchor(base) {
        Ok(anchor) => anchor,
        Err(FailureReason::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(other) => return Err(other),
    };
    let (roots, directories) = (root_directory(base), directories(base)?);
    let newest = client::stored_root(&roots, &anchor, &directories);
    let newest = newest.map_err(|e| repository(&roots.display().to_string(), e))?;
    Ok(Some(newest.unwrap_or(anchor)))
}

/// The repositories of which something is trusted, by URL.
pub(crate) fn repositories(context: &DeviceContext) -> Result<Vec<TrustedRepository>, DeviceError> {
    let mut all = Vec::new();
    for directory in directories(context.base()).map_err(DeviceError::Store)? {
        let known = known(&directory).map_err(DeviceError::Store)?;
        let url = written_url(&directory);
        // Older versions wrote down what was in it.
        let url = url.map(|url| match RepositoryUrl::without_credentials(&url) {
            Ok(url) => url.to_string(),
            Err(_) => without_secrets(&url),
        });
        all.push(TrustedRepository { known, url });
    }
    all.sort_by(|a, b| a.url.cmp(&b.url));
    Ok(all)
}

/// Forgets what is trusted of a repository; whether there was anything.
pub(crate) fn forget(
    context: &DeviceContext,
    url: &str,
    forget: ForgetLevel,
    sink: &dyn Sink,
) -> Result<bool, DeviceError> {
    // Of what is no URL nothing can be trusted.
    let Ok(url) = RepositoryUrl::without_credentials(url) else {
        return Ok(false);
    };
    let base = context.base();
    if directories(base).map_err(DeviceError::Store)?.is_empty() {
        return Ok(false);
    }
    let _downloads = context
        .lock_downloads(&Cancel::new(), sink)
        .map_err(DeviceError::Store)?;
    settle(base).map_err(DeviceError::Store)?;
    let directory = directory(base, &url);
    if !directory.is_dir() {
        return Ok(false);
    }
    client::reset(&directory, forget)
        .map_err(|e| DeviceError::Store(repository(url.as_str(), e)))?;
    Ok(true)
}

/// Brings what older versions of this program left into the present form: the newest root of any
/// repository becomes the device's, a directory that is named by another spelling of a URL gets the
/// name that it has now, and one of a URL at which nothing was ever verified goes away. The lock of
/// downloads is held.
pub(crate) fn settle(base: &Path) -> Result<(), FailureReason> {
    let all = directories(base)?;
    if let Ok(anchor) = anchor(base) {
        // An anchor that is no root is told where it is used.
        let taken_up = client::newest_root(&root_directory(base), &anchor, &all);
        if let Err(TufError::Io(error)) = taken_up {
            return Err(error.into());
        }
    }
    for old in all {
        let found = known(&old)?;
        if found.timestamp.is_none() && found.time.is_none() {
            files::remove_all(&old)?;
            continue;
        }
        let Some(written) = written_url(&old) else {
            continue;
        };
        let Ok(url) = RepositoryUrl::without_credentials(&written) else {
            continue;
        };
        let new = directory(base, &url);
        if new == old {
            continue;
        }
        if !new.is_dir() {
            files::rename(&old, &new)?;
        } else if known(&new)?.timestamp < found.timestamp {
            files::remove_all(&new)?;
            files::rename(&old, &new)?;
        } else {
            files::remove_all(&old)?;
            continue;
        }
        name(&new, &url)?;
    }
    Ok(())
}

/// Writes down which repository a directory is of.
pub(crate) fn name(directory: &Path, url: &RepositoryUrl) -> Result<(), FailureReason> {
    if !directory.is_dir() || written_url(directory).as_deref() == Some(url.as_str()) {
        return Ok(());
    }
    files::write(&directory.join(URL), url.as_str().as_bytes())
}

/// The directories of repositories.
fn directories(base: &Path) -> Result<Vec<PathBuf>, FailureReason> {
    let metadata = metadata(base);
    let mut all = files::names(&metadata)?;
    all.retain(|name| name.parse::<Digest>().is_ok());
    let all = all.into_iter().map(|name| metadata.join(name));
    Ok(all.filter(|directory| directory.is_dir()).collect())
}

/// The URL that was written down for a directory.
fn written_url(directory: &Path) -> Option<String> {
    let url = files::read(&directory.join(URL), URL_LIMIT).ok()?;
    String::from_utf8(url).ok()
}

fn known(directory: &Path) -> Result<KnownMetadata, FailureReason> {
    KnownMetadata::read(directory).map_err(|e| repository(&directory.display().to_string(), e))
}

fn repository(url: &str, source: TufError) -> FailureReason {
    FailureReason::Repository {
        url: url.to_owned(),
        source: Box::new(source),
    }
}

impl DeviceError {
    /// The repository whose metadata contradicts what was trusted before, and what would have to be
    /// forgotten of it, if its owner has set it up anew and this is no attack:
    /// [`Device::forget_repository`](crate::Device::forget_repository).
    pub fn forgettable(&self) -> Option<(&str, ForgetLevel)> {
        let DeviceError::Staging(FailureReason::Repository { url, source }) = self else {
            return None;
        };
        let forget = match &**source {
            TufError::Vanished { .. } => ForgetLevel::Roles,
            // Never forgotten.
            TufError::Rollback { role, .. } if role == "root" => return None,
            TufError::Rollback { role, .. } if role != "timestamp" && role != "snapshot" => {
                ForgetLevel::Roles
            }
            TufError::Rollback { .. } | TufError::Changed { .. } => ForgetLevel::Versions,
            // By the clock it has not.
            TufError::Expired { at, clock, .. } if at > clock => ForgetLevel::Time,
            _ => return None,
        };
        Some((url, forget))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_forgotten_than_what_is_contradicted() {
        let rollback = |role: &str| TufError::Rollback {
            role: role.to_owned(),
            trusted: 2,
            offered: 1,
        };
        let changed = TufError::Changed {
            role: "snapshot".into(),
            version: 2,
        };
        let vanished = TufError::Vanished {
            file: "targets.json".into(),
        };
        let [past, now, ahead] = [1, 2, 3].map(|s| jiff::Timestamp::from_second(s).unwrap());
        let expired = |at, remembered| TufError::Expired {
            role: "timestamp".into(),
            at,
            clock: now,
            remembered,
        };
        for (source, level) in [
            (rollback("timestamp"), Some(ForgetLevel::Versions)),
            (rollback("snapshot"), Some(ForgetLevel::Versions)),
            (rollback("targets"), Some(ForgetLevel::Roles)),
            (rollback("runtime-dev"), Some(ForgetLevel::Roles)),
            (rollback("root"), None),
            (changed, Some(ForgetLevel::Versions)),
            (vanished, Some(ForgetLevel::Roles)),
            (expired(past, None), None),
            (expired(past, Some(ahead)), None),
            // By the clock it has not, and what is remembered is in the way.
            (expired(ahead, Some(ahead)), Some(ForgetLevel::Time)),
        ] {
            let error = DeviceError::Staging(repository("u", source));
            assert_eq!(error.forgettable(), level.map(|l| ("u", l)), "{error:?}");
        }
    }
}
