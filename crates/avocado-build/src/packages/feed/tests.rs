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
    let text =
        format!("default_target: avocado-t\nsupported_targets: [avocado-t]\ndistro: {distro}\n");
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
) -> (
    Result<FeedAccess, BuildError>,
    Option<Snapshot>,
    Vec<String>,
) {
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
    let Err(BuildError::Feed { url, .. }) = access else {
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
        assert!(matches!(access, Err(BuildError::Feed { .. })), "{access:?}");
        assert_eq!(pin, None);
    }
}

#[test]
fn a_pin_counts_while_its_snapshot_is_there() {
    let pin = snapshot("edge", "s0");
    let (gone, kept, _) = access(&serve(404, ""), Some(pin.clone()));
    let Err(BuildError::SnapshotGone { url, .. }) = gone else {
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

#[test]
fn a_step_that_failed_may_have_lost_its_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let (network, cancel) = (NetworkSettings::default(), Cancel::new());
    let failed = || BuildError::Invalid("dnf failed".into());
    let after = |url: &str, pin: Option<Snapshot>, cached: bool, error: BuildError| {
        let project = following(directory.path(), url);
        let mut lock = LockFile::load(directory.path()).unwrap();
        lock.target_mut(&project.target).set_snapshot(pin);
        let feed = Feed::new(&project, &network, &cancel).cached(cached);
        feed.after_failure(&Mutex::new(lock), error)
    };
    let pin = || Some(snapshot("edge", "s0"));
    let gone = serve(404, "");
    let error = after(&gone, pin(), false, failed());
    assert!(matches!(error, BuildError::SnapshotGone { .. }), "{error}");
    // Where it is there, nobody knows, there is none, or nobody is asked.
    for (url, pin, cached) in [
        (serve(200, ""), pin(), false),
        (serve(503, ""), pin(), false),
        ("http://127.0.0.1:9".to_owned(), pin(), false),
        (gone.clone(), None, false),
        (gone.clone(), Some(snapshot("stable", "s0")), false),
        (gone.clone(), pin(), true),
    ] {
        let error = after(&url, pin, cached, failed());
        assert_eq!(error.to_string(), "dnf failed", "{url} {cached}");
    }
    assert!(after(&gone, pin(), false, BuildError::Cancelled).is_cancelled());
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
fn a_stop_in_the_middle_of_an_answer_is_no_failure_either() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let project = following(directory.path(), &url);
    let (network, cancel) = (NetworkSettings::default(), Cancel::new());
    let feed = Feed::new(&project, &network, &cancel);
    let latest = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let head = BufReader::new(&stream).lines();
            let head = head.map_while(Result::ok).take_while(|l| !l.is_empty());
            assert_ne!(head.count(), 0);
            stream
                .write_all(b"HTTP/1.1 200 x\r\ncontent-length: 100\r\n\r\n{")
                .unwrap();
            cancel.cancel();
            // Until the client leaves.
            let _ = std::io::Read::read(&mut stream, &mut [0]);
        });
        feed.latest()
    });
    let error = latest.unwrap_err();
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
fn asked_twice(url: &str, more: &str) -> (Result<FeedAccess, BuildError>, Vec<String>) {
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
