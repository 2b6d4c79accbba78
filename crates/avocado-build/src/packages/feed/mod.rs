//! The package feed: which snapshot of it the project is pinned to.

mod requests;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use avocado_events::{Cancel, Event, Sink};
use avocado_http::{NetworkSettings, crosses_network_in_clear};
use avocado_project::{Distro, LockFile, Needed, Project, RepositoryCredentials, Snapshot};
use serde::{Deserialize, Serialize};

use crate::error::{At as _, BuildError};
use crate::packages::repository::{AccessCredentials, RepositoryAccess};

/// How dnf reaches the feed. Where the feed is does not matter to what it holds, so none of this
/// is part of a step's inputs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FeedAccess {
    pub(crate) url: String,
    pub(crate) releasever: String,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) tls_verify: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) credentials: Option<AccessCredentials>,
    /// Beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) repositories: Vec<RepositoryAccess>,
    /// Nothing is asked of it: what dnf has in its cache is all that there is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cached: bool,
    /// The public keys that may sign packages, where signatures are checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signing_keys: Option<String>,
    pub(crate) dnf_args: Vec<String>,
}

/// The feed of one project and target.
pub(crate) struct Feed<'a> {
    project: &'a Project,
    /// The proxy; the rest of it is in the project.
    network: &'a NetworkSettings,
    cancel: &'a Cancel,
    /// Nothing is asked of it.
    cached: bool,
    /// The pin is looked at once per run, and only if something is to be installed.
    checked: Mutex<bool>,
}

impl<'a> Feed<'a> {
    /// The feed of `project`, reached as `network` says until `cancel` asks to stop.
    pub(crate) fn new(
        project: &'a Project,
        network: &'a NetworkSettings,
        cancel: &'a Cancel,
    ) -> Self {
        Feed {
            project,
            network,
            cancel,
            cached: false,
            checked: Mutex::new(false),
        }
    }

    /// The same, of which nothing is asked, if so.
    pub(crate) fn cached(self, cached: bool) -> Self {
        Feed { cached, ..self }
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
    ) -> Result<FeedAccess, BuildError> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lock = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !*checked {
            self.check(&mut lock, sink)?;
            *checked = true;
        }
        let distro = self.distro();
        Ok(FeedAccess {
            url: distro.repo_url.clone(),
            releasever: self.releasever(&lock),
            ca: distro.ca.clone(),
            tls_verify: distro.tls_verify,
            credentials: self.known(&distro.credentials)?.map(Into::into),
            repositories: self.repositories_with_credentials()?,
            cached: self.cached,
            signing_keys: self.signing_keys()?,
            dnf_args: dnf_args.to_vec(),
        })
    }

    /// Those beside the feed, and who asks them.
    fn repositories_with_credentials(&self) -> Result<Vec<RepositoryAccess>, BuildError> {
        let repositories = self.project.repositories.iter();
        repositories
            .zip(self.repositories()?)
            .map(|(repository, access)| {
                let who = self.known(&repository.credentials)?;
                Ok(access.with_credentials(who))
            })
            .collect()
    }

    /// Who asks, where something is asked. Only now it matters whether that is known.
    fn known<'c>(
        &self,
        credentials: &'c Option<Needed<RepositoryCredentials>>,
    ) -> Result<Option<&'c RepositoryCredentials>, BuildError> {
        let Some(credentials) = credentials.as_ref().filter(|_| !self.cached) else {
            return Ok(None);
        };
        let known = credentials.get().map_err(|why| BuildError::Project {
            diagnostics: vec![why.clone()],
        })?;
        Ok(Some(known))
    }

    /// Those beside the feed, without who asks them: nobody has to be known to tell what an install
    /// is made of.
    pub(crate) fn repositories(&self) -> Result<Vec<RepositoryAccess>, BuildError> {
        let repositories = self.project.repositories.iter();
        repositories
            .map(|repository| {
                let keys = repository.gpg_key.as_deref().map(public_keys).transpose()?;
                Ok(RepositoryAccess::of(repository, keys))
            })
            .collect()
    }

    /// The keys that may sign packages; `None` where signatures are not checked.
    pub(crate) fn signing_keys(&self) -> Result<Option<String>, BuildError> {
        self.distro()
            .gpg_key
            .as_deref()
            .map(public_keys)
            .transpose()
    }

    /// Says that anybody on the way can be the feed, where that is so.
    pub(crate) fn warn_of_clear_text(&self, sink: &dyn Sink) {
        let url = &self.distro().repo_url;
        if crosses_network_in_clear(url) {
            sink.emit(Event::warning(format!(
                "the feed {url} is plain http: whoever is on the way can change what avocado.lock \
                 does not have yet; use https, or name the keys that sign it in `distro.repo.gpgkey`"
            )));
        }
    }

    fn check(&self, lock: &mut LockFile, sink: &dyn Sink) -> Result<(), BuildError> {
        if !self.cached {
            self.warn_of_clear_text(sink);
        }
        let Some((release, channel)) = self.channel() else {
            return Ok(());
        };
        let target = &self.project.target;
        if let Some(pin) = self.pin(lock) {
            return if self.cached {
                Ok(())
            } else {
                self.still_there(pin)
            };
        }
        if let Some(other) = lock.target(target).and_then(|t| t.snapshot()) {
            sink.emit(Event::warning(format!(
                "the lock pins {}/{}, but the project uses {release}/{channel}: following the head of the channel",
                other.release, other.channel
            )));
            return Ok(());
        }
        // Which one is the newest only the feed knows.
        if self.cached {
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
}

fn public_keys(path: &Path) -> Result<String, BuildError> {
    let keys = std::fs::read_to_string(path).at("read", path)?;
    if keys.contains("-----BEGIN PGP PUBLIC KEY BLOCK-----") {
        return Ok(keys);
    }
    Err(BuildError::Invalid(format!(
        "{} is no public key in text form: write it with `gpg --armor --export <key>`",
        path.display()
    )))
}

#[cfg(test)]
mod tests;
