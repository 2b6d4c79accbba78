//! The package feed: which snapshot of it the project is pinned to.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use avocado_events::{Cancel, Event, Sink};
use avocado_http::{
    HttpClient, NetworkSettings, RepositoryUrl, Transport as _, TransportError,
    crosses_network_in_clear,
};
use avocado_project::{Distro, LockFile, Needed, Project, RepositoryCredentials, Snapshot};
use serde::{Deserialize, Serialize};

use crate::error::{At as _, Error};
use crate::packages::repository::{AccessCredentials, RepositoryAccess};

/// How long the feed may take to connect, and then be silent, for one small answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest `snapshots-latest.json`, in bytes.
const LARGEST_ANSWER: u64 = 64 * 1024;

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

#[derive(Deserialize)]
struct LatestSnapshot {
    id: String,
    #[serde(default)]
    created: Option<String>,
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
    ) -> Result<FeedAccess, Error> {
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
    fn repositories_with_credentials(&self) -> Result<Vec<RepositoryAccess>, Error> {
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
    ) -> Result<Option<&'c RepositoryCredentials>, Error> {
        let Some(credentials) = credentials.as_ref().filter(|_| !self.cached) else {
            return Ok(None);
        };
        let known = credentials.get().map_err(|why| Error::Project {
            diagnostics: vec![why.clone()],
        })?;
        Ok(Some(known))
    }

    /// Those beside the feed, without who asks them: nobody has to be known to tell what an install
    /// is made of.
    pub(crate) fn repositories(&self) -> Result<Vec<RepositoryAccess>, Error> {
        let repositories = self.project.repositories.iter();
        repositories
            .map(|repository| {
                let keys = repository.gpg_key.as_deref().map(public_keys).transpose()?;
                Ok(RepositoryAccess::of(repository, keys))
            })
            .collect()
    }

    /// The keys that may sign packages; `None` where signatures are not checked.
    pub(crate) fn signing_keys(&self) -> Result<Option<String>, Error> {
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

    fn check(&self, lock: &mut LockFile, sink: &dyn Sink) -> Result<(), Error> {
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

    /// The newest snapshot of the channel; `None` where the feed has none.
    pub(crate) fn latest(&self) -> Result<Option<Snapshot>, Error> {
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
        body.read_to_end(&mut text)
            .map_err(|e| feed_error(&url, e))?;
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

    fn still_there(&self, pin: &Snapshot) -> Result<(), Error> {
        let url = self.url(&format!(
            "{}/{}/snapshots/{}/target/{}/repodata/repomd.xml",
            pin.release,
            pin.channel,
            pin.snapshot,
            self.machine()
        ));
        // Anything but a plain "not there" is left to dnf, which tries harder and says more.
        match self.client()?.get(&url, None) {
            Err(TransportError::Cancelled) => Err(Error::Cancelled),
            Err(TransportError::Missing(404)) => Err(Error::SnapshotGone {
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

    fn client(&self) -> Result<HttpClient, Error> {
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

fn public_keys(path: &Path) -> Result<String, Error> {
    let keys = std::fs::read_to_string(path).at("read", path)?;
    if keys.contains("-----BEGIN PGP PUBLIC KEY BLOCK-----") {
        return Ok(keys);
    }
    Err(Error::Invalid(format!(
        "{} is no public key in text form: write it with `gpg --armor --export <key>`",
        path.display()
    )))
}

fn transport_error(url: &str, error: TransportError) -> Error {
    match error {
        TransportError::Cancelled => Error::Cancelled,
        other => feed_error(url, other),
    }
}

fn feed_error(url: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Feed {
        url: url.to_owned(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use avocado_events::Silent;
    use avocado_project::LoadOptions;
    use std::fs;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    /// A feed that answers every request with `status` and `body`, for as long as the test runs.
    fn serve(status: u16, body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let head = BufReader::new(&stream).lines();
                let path = head.map_while(Result::ok).take_while(|l| !l.is_empty());
                let asked = path.collect::<Vec<_>>();
                // What was asked for is part of the answer where the test wants to see it.
                let asked = asked[0].split(' ').nth(1).unwrap_or_default().to_owned();
                let body = body.replace("PATH", &asked);
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
            }
        });
        url
    }

    fn project(directory: &Path, distro: &str) -> Project {
        let config = directory.join("avocado.yaml");
        let text = format!(
            "default_target: avocado-t\nsupported_targets: [avocado-t]\ndistro: {distro}\n"
        );
        fs::write(&config, text).unwrap();
        let loaded = avocado_project::load(&LoadOptions {
            text: None,
            config: &config,
            target: None,
            env: &|_| None,
            cli_version: "1.0.0",
        });
        loaded.unwrap().project
    }

    /// The project follows a channel of the feed at `url`.
    fn following(directory: &Path, url: &str) -> Project {
        let distro = format!("{{release: '2024', channel: edge, repo: {{url: '{url}'}}}}");
        project(directory, &distro)
    }

    fn snapshot(channel: &str, snapshot: &str) -> Snapshot {
        Snapshot {
            release: "2024".into(),
            channel: channel.into(),
            snapshot: snapshot.into(),
            repo_url: None,
            created: None,
        }
    }

    /// What [`Feed::access`] says with this pin in the lock, and the lock afterwards.
    fn access(
        url: &str,
        pin: Option<Snapshot>,
    ) -> (Result<FeedAccess, Error>, Option<Snapshot>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let project = following(directory.path(), url);
        let mut lock = LockFile::load(directory.path()).unwrap();
        if let Some(pin) = pin {
            lock.target_mut(&project.target).set_snapshot(Some(pin));
        }
        let lock = Mutex::new(lock);
        let (network, cancel) = (NetworkSettings::default(), Cancel::new());
        let feed = Feed::new(&project, &network, &cancel);
        let said = Mutex::new(Vec::new());
        let sink = |event: Event| said.lock().unwrap().push(event.message);
        let access = feed.access(&lock, &["--x".into()], &sink);
        let lock = lock.into_inner().unwrap();
        let pin = lock.target(&project.target).and_then(|t| t.snapshot());
        (access, pin.cloned(), said.into_inner().unwrap())
    }

    #[test]
    fn who_asks_matters_where_something_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let project = project(
            directory.path(),
            "{repo: {url: 'http://a', username: me, password: \"{{ env.NOT_SET }}\"}}\n\
             repos: {a: {url: 'http://a', username: me, password: \"{{ env.NOT_SET }}\"}}",
        );
        let (network, cancel) = (NetworkSettings::default(), Cancel::new());
        let lock = Mutex::new(LockFile::load(directory.path()).unwrap());
        let feed = Feed::new(&project, &network, &cancel);
        assert_eq!(feed.repositories().unwrap().len(), 1);
        let error = feed.access(&lock, &[], &Silent).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("avocado.yaml:3:58: this is empty"),
            "{error}"
        );
        assert_eq!(
            error.hint().as_deref(),
            Some("is the variable set that it is taken from?")
        );
        // What dnf has in its cache nobody is asked for.
        let feed = Feed::new(&project, &network, &cancel).cached(true);
        assert!(
            feed.access(&lock, &[], &Silent)
                .unwrap()
                .credentials
                .is_none()
        );
    }

    #[test]
    fn the_first_use_pins_the_newest_snapshot() {
        let url = serve(200, "{\"id\": \"s1\", \"created\": \"today\", \"more\": 1}");
        let (access, pin, said) = access(&url, None);
        let access = access.unwrap();
        assert_eq!(access.releasever, "2024/edge/snapshots/s1");
        assert_eq!((access.url, access.dnf_args), (url, vec!["--x".to_owned()]));
        let pin = pin.unwrap();
        assert_eq!(
            (pin.snapshot.as_str(), pin.created.as_deref()),
            ("s1", Some("today"))
        );
        assert_eq!(said, ["Pinned avocado-t to snapshot s1 of 2024/edge"]);
    }

    #[test]
    fn a_feed_without_snapshots_is_followed_at_its_head() {
        let (access, pin, said) = access(&serve(404, ""), None);
        assert_eq!(access.unwrap().releasever, "2024/edge");
        assert_eq!((pin, said), (None, vec![]));
    }

    #[test]
    fn the_newest_snapshot_is_that_of_the_machine() {
        // The name that comes back is the path that was asked for, and no name of a snapshot.
        let (access, _, _) = access(&serve(200, "{\"id\": \"PATH\"}"), None);
        let Err(Error::Feed { url, .. }) = access else {
            panic!("{access:?}");
        };
        assert!(
            url.ends_with("/2024/edge/target/t/snapshots-latest.json"),
            "{url}"
        );
    }

    #[test]
    fn an_answer_that_is_none_is_an_error_and_pins_nothing() {
        for (status, body) in [
            (200, "{"),
            (200, "{\"id\": \"../x\"}"),
            (403, ""),
            (500, ""),
        ] {
            let (access, pin, _) = access(&serve(status, body), None);
            assert!(matches!(access, Err(Error::Feed { .. })), "{access:?}");
            assert_eq!(pin, None);
        }
    }

    #[test]
    fn a_pin_counts_while_its_snapshot_is_there() {
        let pin = snapshot("edge", "s0");
        let (gone, kept, _) = access(&serve(404, ""), Some(pin.clone()));
        let Err(Error::SnapshotGone { url, .. }) = gone else {
            panic!("{gone:?}");
        };
        let path = "/2024/edge/snapshots/s0/target/t/repodata/repomd.xml";
        assert!(url.ends_with(path), "{url}");
        assert_eq!(kept, Some(pin.clone()));
        // Everything else is left to dnf, which tries harder.
        for status in [200, 403, 500] {
            let (access, _, _) = access(&serve(status, ""), Some(pin.clone()));
            assert_eq!(access.unwrap().releasever, "2024/edge/snapshots/s0");
        }
    }

    /// The answer would be another one: nothing listens there.
    #[test]
    fn of_a_cached_feed_nothing_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let project = following(directory.path(), "http://127.0.0.1:9");
        let (network, cancel) = (NetworkSettings::default(), Cancel::new());
        for (pin, releasever) in [
            (Some(snapshot("edge", "s0")), "2024/edge/snapshots/s0"),
            (None, "2024/edge"),
        ] {
            let mut lock = LockFile::load(directory.path()).unwrap();
            lock.target_mut(&project.target).set_snapshot(pin);
            let feed = Feed::new(&project, &network, &cancel).cached(true);
            let access = feed.access(&Mutex::new(lock), &[], &Silent).unwrap();
            assert_eq!(
                (access.releasever.as_str(), access.cached),
                (releasever, true)
            );
        }
    }

    #[test]
    fn a_pin_of_another_channel_does_not_count_and_stays() {
        let pin = snapshot("stable", "s0");
        let (access, kept, said) = access("http://127.0.0.1:9", Some(pin.clone()));
        assert_eq!(access.unwrap().releasever, "2024/edge");
        assert_eq!(kept, Some(pin));
        assert!(said[0].contains("2024/stable"), "{said:?}");
    }

    #[test]
    fn a_stop_is_no_failure_of_the_feed() {
        let directory = tempfile::tempdir().unwrap();
        let project = following(directory.path(), "http://127.0.0.1:9");
        let (network, cancel) = (NetworkSettings::default(), Cancel::new());
        cancel.cancel();
        let feed = Feed::new(&project, &network, &cancel);
        let lock = Mutex::new(LockFile::load(directory.path()).unwrap());
        let error = feed.access(&lock, &[], &Silent).unwrap_err();
        assert!(error.is_cancelled(), "{error:?}");
    }

    #[test]
    fn where_a_pin_counts_the_place_of_the_feed_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let mut lock = LockFile::load(directory.path()).unwrap();
        let (network, cancel) = (NetworkSettings::default(), Cancel::new());
        let identity = |url: &str, lock: &LockFile| {
            let project = following(directory.path(), url);
            Feed::new(&project, &network, &cancel).identity(lock)
        };
        assert_eq!(identity("http://a", &lock), "http://a/2024/edge");
        assert_eq!(identity("http://b", &lock), "http://b/2024/edge");
        let target = "avocado-t".parse().unwrap();
        lock.target_mut(&target)
            .set_snapshot(Some(snapshot("edge", "s0")));
        assert_eq!(identity("http://a", &lock), "2024/edge/snapshots/s0");
        assert_eq!(identity("http://b", &lock), "2024/edge/snapshots/s0");
    }

    /// What is said of a feed at `url`, and how it is reached; nothing is asked of it.
    fn asked_twice(url: &str, more: &str) -> (Result<FeedAccess, Error>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("none.asc"), "no key").unwrap();
        let armored = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n";
        fs::write(directory.path().join("key.asc"), armored).unwrap();
        let distro = format!("{{repo: {{url: '{url}', releasever: r{more}}}}}");
        let project = project(directory.path(), &distro);
        let (network, cancel) = (NetworkSettings::default(), Cancel::new());
        let feed = Feed::new(&project, &network, &cancel);
        let lock = Mutex::new(LockFile::load(directory.path()).unwrap());
        let said = Mutex::new(Vec::new());
        let sink = |event: Event| said.lock().unwrap().push(event.message);
        let access = feed.access(&lock, &[], &sink);
        let access = access.and_then(|_| feed.access(&lock, &[], &sink));
        (access, said.into_inner().unwrap())
    }

    #[test]
    fn a_feed_in_the_clear_is_told_once() {
        let (access, said) = asked_twice("http://feed.example", "");
        assert_eq!(access.unwrap().signing_keys, None);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains("http://feed.example is plain http"),
            "{said:?}"
        );
        for url in ["https://feed.example", "http://127.0.0.1:1", "file:///feed"] {
            assert_eq!(asked_twice(url, "").1, [""; 0], "{url}");
        }
    }

    #[test]
    fn the_keys_of_a_feed_go_along() {
        let (access, _) = asked_twice("https://feed.example", ", gpgkey: key.asc");
        assert!(access.unwrap().signing_keys.unwrap().contains("PUBLIC KEY"));
        let (refused, _) = asked_twice("https://feed.example", ", gpgkey: none.asc");
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("none.asc is no public key"), "{said}");
    }
}
