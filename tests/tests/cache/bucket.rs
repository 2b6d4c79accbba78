//! A cache in a bucket of S3, with a server that checks every signature.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use avocado_testbed::tools::{TestNeed, cache_dir, skip_without};

use super::common::cannot_build;
use super::{ONE_IMAGE, Team, free_port, is_shared_by_cache, shared, told};

const ACCESS_KEY: &str = "AKIDEXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A server of others, which ends with the test.
struct S3Server(Child);

fn program() -> PathBuf {
    cache_dir().join("tools/s3s-fs/bin/s3s-fs")
}

impl S3Server {
    /// One with a bucket for each directory in `place`.
    fn start(place: &Path, port: u16) -> Self {
        let mut server = Command::new(program());
        server.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        server.args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]);
        server.arg(place).stdin(Stdio::null()).stdout(Stdio::null());
        let server = S3Server(server.spawn().unwrap());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "the server does not listen");
            std::thread::yield_now();
        }
        server
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_bucket_is_a_cache_for_those_who_have_its_keys() {
    let name = "a_bucket_is_a_cache_for_those_who_have_its_keys";
    if cannot_build(name) || skip_without(name, &[TestNeed::File(program())]) {
        return;
    }
    let team = Team::new();
    let place = team.path("buckets");
    fs::create_dir_all(place.join("of-team")).unwrap();
    let port = free_port();
    let _server = S3Server::start(&place, port);
    let cache = format!("url: 's3://of-team/a/cache', endpoint: 'http://127.0.0.1:{port}'");
    let who = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    ];
    is_shared_by_cache(&team, &cache, &who);
    let objects = |directory: &str| {
        let directory = place.join("of-team/a/cache").join(directory);
        fs::read_dir(directory).unwrap().count()
    };
    assert!(objects("ac") >= 4 && objects("cas") >= 4);

    // Without keys, and with wrong ones, everything is made here, and nothing secret is told.
    for (secret, said) in [
        (None, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (Some("another s3cret"), "403"),
    ] {
        let mut stranger = team.machine("stranger", &format!("{{{cache}, push: true}}"));
        if let Some(secret) = secret {
            let project = stranger.project.with_env("AWS_ACCESS_KEY_ID", ACCESS_KEY);
            stranger.project = project.with_env("AWS_SECRET_ACCESS_KEY", secret);
        }
        let events = stranger.run(&ONE_IMAGE);
        let warnings = told(&events);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(said), "{warnings:?}");
        for hidden in ["s3cret", ACCESS_KEY, "X-Amz"] {
            assert!(!warnings[0].contains(hidden), "{warnings:?}");
        }
        assert_eq!(shared(events.steps("success")), ["ext image hello-config"]);
        fs::remove_dir_all(team.path("stranger")).unwrap();
    }
}
