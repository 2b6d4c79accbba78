//! What is asked of a feed without dnf: which snapshot is the newest, and whether one is still there.

use std::io::Read as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use avocado_http::{HttpClient, NetworkSettings, RepositoryUrl, Transport as _, TransportError};
use avocado_project::{LockFile, Snapshot};
use serde::Deserialize;

use super::Feed;
use crate::error::{At as _, BuildError};

/// How long the feed may take to connect, and then be silent, for one small answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest `snapshots-latest.json`, in bytes.
const LARGEST_ANSWER: u64 = 64 * 1024;

#[derive(Deserialize)]
struct LatestSnapshot {
    id: String,
    #[serde(default)]
    created: Option<String>,
}

impl Feed<'_> {
    /// The newest snapshot of the channel; `None` where the feed has none.
    pub(crate) fn latest(&self) -> Result<Option<Snapshot>, BuildError> {
        let Some((release, channel)) = self.channel() else {
            return Ok(None);
        };
        let url = self.url(&format!(
            "{release}/{channel}/target/{}/snapshots-latest.json",
            self.machine()
        ));
        let answer = match self.client()?.get(&url, None) {
            Ok(answer) => answer,
            Err(TransportError::Missing(404)) => return Ok(None),
            Err(error) => return Err(transport_error(&url, error)),
        };
        let mut text = Vec::new();
        let mut body = answer.body.take(LARGEST_ANSWER);
        body.read_to_end(&mut text).map_err(|e| {
            // A stop may come in the middle of an answer.
            if self.cancel.is_cancelled() {
                BuildError::Cancelled
            } else {
                feed_error(&url, e)
            }
        })?;
        let latest: LatestSnapshot =
            serde_json::from_slice(&text).map_err(|e| feed_error(&url, e))?;
        // The id becomes part of URLs and of the lock.
        let id: avocado_manifest::Name = latest.id.parse().map_err(|e| feed_error(&url, e))?;
        Ok(Some(Snapshot {
            release: release.into(),
            channel: channel.into(),
            snapshot: id.to_string(),
            repo_url: None,
            created: latest.created,
        }))
    }

    /// Why a step failed that asked the feed: the snapshot may be gone by now, since it was looked at
    /// or from between what the step asked for.
    pub(crate) fn after_failure(&self, lock: &Mutex<LockFile>, error: BuildError) -> BuildError {
        if self.cached || error.is_cancelled() {
            return error;
        }
        let pin = {
            let lock = lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.pin(&lock).cloned()
        };
        match pin.map(|pin| self.still_there(&pin)) {
            Some(Err(gone @ BuildError::SnapshotGone { .. })) => gone,
            _ => error,
        }
    }

    pub(super) fn still_there(&self, pin: &Snapshot) -> Result<(), BuildError> {
        let url = self.url(&format!(
            "{}/{}/snapshots/{}/target/{}/repodata/repomd.xml",
            pin.release,
            pin.channel,
            pin.snapshot,
            self.machine()
        ));
        // Anything but a plain "not there" is left to dnf, which tries harder and says more.
        match self.client()?.get(&url, None) {
            Err(TransportError::Cancelled) => Err(BuildError::Cancelled),
            Err(TransportError::Missing(404)) => Err(BuildError::SnapshotGone {
                snapshot: pin.snapshot.clone(),
                release: pin.release.clone(),
                channel: pin.channel.clone(),
                url,
            }),
            _ => Ok(()),
        }
    }

    /// The URL of the feed, where it is one that requests can go to.
    fn base(&self) -> Option<RepositoryUrl> {
        self.distro().repo_url.parse().ok()
    }

    /// The URL of a file of the feed.
    fn url(&self, path: &str) -> String {
        match self.base() {
            Some(base) => base.join(path),
            None => format!("{}/{path}", self.distro().repo_url),
        }
    }

    fn machine(&self) -> &str {
        let target = self.project.target.as_str();
        target.strip_prefix("avocado-").unwrap_or(target)
    }

    fn client(&self) -> Result<HttpClient, BuildError> {
        let distro = self.distro();
        let ca = match &distro.ca {
            Some(path) => Some(std::fs::read(path).at("read", path)?),
            None => None,
        };
        let network = NetworkSettings {
            ca,
            proxy: self.network.proxy.clone(),
            // dnf is told the same: what the packages are is in the lock.
            any_certificate: !distro.tls_verify,
        };
        let client = HttpClient::over(&network, &[], None, PATIENCE, PATIENCE)
            .map_err(|e| feed_error(&distro.repo_url, e))?;
        let client = match (self.known(&distro.credentials)?, self.base()) {
            (Some(who), Some(base)) => client.as_user(&[base], &who.username, &who.password),
            _ => client,
        };
        Ok(client.stopped_by(self.cancel))
    }
}

fn transport_error(url: &str, error: TransportError) -> BuildError {
    match error {
        TransportError::Cancelled => BuildError::Cancelled,
        other => feed_error(url, other),
    }
}

fn feed_error(
    url: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> BuildError {
    BuildError::Feed {
        url: url.to_owned(),
        source: source.into(),
    }
}
