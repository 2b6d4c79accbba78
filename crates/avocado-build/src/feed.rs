//! The package feed: which snapshot of it the project is pinned to.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use avocado_events::{Event, Sink};
use avocado_project::{Distro, Project};
use avocado_project::{LockFile, Snapshot};
use serde::{Deserialize, Serialize};

use crate::Error;

/// How long the feed may take for one small answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How dnf reaches the feed. Where the feed is does not matter to what it holds, so none of this
/// is part of a step's inputs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Access {
    pub(crate) url: String,
    pub(crate) releasever: String,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) tls_verify: bool,
    pub(crate) dnf_args: Vec<String>,
}

/// The feed of one project and target.
pub(crate) struct Feed<'a> {
    project: &'a Project,
    /// The pin is looked at once per run, and only if something is to be installed.
    checked: Mutex<bool>,
}

#[derive(Deserialize)]
struct Latest {
    id: String,
    #[serde(default)]
    created: Option<String>,
}

impl<'a> Feed<'a> {
    pub(crate) fn new(project: &'a Project) -> Self {
        Feed {
            project,
            checked: Mutex::new(false),
        }
    }

    fn distro(&self) -> &Distro {
        &self.project.distro
    }

    /// `<release>` and `<channel>`, where the project follows snapshots at all.
    fn channel(&self) -> Option<(&str, &str)> {
        let distro = self.distro();
        match (&distro.releasever, &distro.release, &distro.channel) {
            (None, Some(release), Some(channel)) => Some((release, channel)),
            _ => None,
        }
    }

    /// The pin that counts: one for another release or channel does not.
    fn pin<'l>(&self, lock: &'l LockFile) -> Option<&'l Snapshot> {
        let (release, channel) = self.channel()?;
        lock.target(&self.project.target)?
            .snapshot()
            .filter(|pin| pin.release == release && pin.channel == channel)
    }

    /// What dnf calls `releasever`: the frozen tree if there is a pin, else the channel's head.
    pub(crate) fn releasever(&self, lock: &LockFile) -> String {
        if let Some(pin) = self.pin(lock) {
            return format!("{}/{}/snapshots/{}", pin.release, pin.channel, pin.snapshot);
        }
        let distro = self.distro();
        let part = |p: &Option<String>| p.clone().unwrap_or_default();
        distro
            .releasever
            .clone()
            .unwrap_or_else(|| format!("{}/{}", part(&distro.release), part(&distro.channel)))
    }

    /// What of the feed counts as an input of an install: its snapshot, or, where the head is
    /// followed, its place.
    pub(crate) fn identity(&self, lock: &LockFile) -> String {
        let releasever = self.releasever(lock);
        match self.pin(lock) {
            Some(_) => releasever,
            None => format!("{}/{releasever}", self.distro().repo_url),
        }
    }

    /// How to reach the feed, after making sure that the project's pin is there: the first use
    /// of a target pins it to the newest snapshot.
    pub(crate) fn access(
        &self,
        lock: &Mutex<LockFile>,
        dnf_args: &[String],
        sink: &dyn Sink,
    ) -> Result<Access, Error> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lock = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !*checked {
            self.check(&mut lock, sink)?;
            *checked = true;
        }
        let distro = self.distro();
        Ok(Access {
            url: distro.repo_url.clone(),
            releasever: self.releasever(&lock),
            ca: distro.ca.clone(),
            tls_verify: distro.tls_verify,
            dnf_args: dnf_args.to_vec(),
        })
    }

    fn check(&self, lock: &mut LockFile, sink: &dyn Sink) -> Result<(), Error> {
        let Some((release, channel)) = self.channel() else {
            return Ok(());
        };
        let target = &self.project.target;
        if let Some(pin) = self.pin(lock) {
            return self.still_there(pin);
        }
        if let Some(other) = lock.target(target).and_then(|t| t.snapshot()) {
            sink.emit(Event::warning(format!(
                "the lock pins {}/{}, but the project uses {release}/{channel}: following the head of the channel",
                other.release, other.channel
            )));
            return Ok(());
        }
        let Some(latest) = self.latest()? else {
            return Ok(());
        };
        sink.emit(Event::info(format!(
            "Pinned {target} to snapshot {} of {release}/{channel}",
            latest.snapshot
        )));
        lock.target_mut(target).set_snapshot(Some(latest));
        lock.save()?;
        Ok(())
    }

    /// The newest snapshot of the channel; `None` where the feed has none.
    pub(crate) fn latest(&self) -> Result<Option<Snapshot>, Error> {
        let Some((release, channel)) = self.channel() else {
            return Ok(None);
        };
        let url = format!(
            "{}/{release}/{channel}/target/{}/snapshots-latest.json",
            self.distro().repo_url,
            self.machine()
        );
        let mut answer = match self.request("GET", &url)? {
            (404, _) => return Ok(None),
            (_, answer) => answer,
        };
        let latest: Latest = answer
            .body_mut()
            .with_config()
            .limit(64 * 1024)
            .read_to_vec()
            .map_err(|e| feed_error(&url, e))
            .and_then(|text| serde_json::from_slice(&text).map_err(|e| feed_error(&url, e)))?;
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

    fn still_there(&self, pin: &Snapshot) -> Result<(), Error> {
        let url = format!(
            "{}/{}/{}/snapshots/{}/target/{}/repodata/repomd.xml",
            self.distro().repo_url,
            pin.release,
            pin.channel,
            pin.snapshot,
            self.machine()
        );
        // Anything but a plain "not there" is left to dnf, which tries harder and says more.
        match self.request("HEAD", &url) {
            Ok((404, _)) => Err(Error::SnapshotGone {
                snapshot: pin.snapshot.clone(),
                release: pin.release.clone(),
                channel: pin.channel.clone(),
                url,
            }),
            _ => Ok(()),
        }
    }

    fn machine(&self) -> &str {
        let target = self.project.target.as_str();
        target.strip_prefix("avocado-").unwrap_or(target)
    }

    fn request(
        &self,
        method: &str,
        url: &str,
    ) -> Result<(u16, ureq::http::Response<ureq::Body>), Error> {
        let agent = self.agent(url)?;
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .body(())
            .map_err(|e| feed_error(url, e))?;
        let answer = agent.run(request).map_err(|e| feed_error(url, e))?;
        let status = answer.status().as_u16();
        if status == 404 || answer.status().is_success() {
            return Ok((status, answer));
        }
        Err(feed_error(url, format!("it answered {}", answer.status())))
    }

    fn agent(&self, url: &str) -> Result<ureq::Agent, Error> {
        use ureq::tls::{Certificate, RootCerts, TlsConfig, parse_pem};
        let distro = self.distro();
        let mut tls = TlsConfig::builder().disable_verification(!distro.tls_verify);
        if let Some(path) = &distro.ca {
            use crate::error::At as _;
            let pem = std::fs::read(path).at("read", path)?;
            let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(ureq::tls::PemItem::Certificate(c)) => Some(c),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                let what = format!("{} holds no certificate", path.display());
                return Err(feed_error(url, what));
            }
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .user_agent(concat!("avocado/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build();
        Ok(config.into())
    }
}

fn feed_error(url: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Feed {
        url: url.to_owned(),
        source: source.into(),
    }
}
