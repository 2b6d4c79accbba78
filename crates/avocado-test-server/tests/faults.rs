//! What goes wrong when a test asks for it, seen from the client.

use std::io::Read;
use std::time::Duration;

use avocado_serve::ServeOptions;
use avocado_test_server::{Fault, FaultRule, LoggedOutcome, TestServer};
use tempfile::TempDir;
use ureq::Agent;

const LONG: Duration = Duration::from_secs(20);
const SIZE: usize = 300_000;

fn start() -> (TempDir, Vec<u8>, TestServer) {
    let root = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..SIZE).map(|n| u8::try_from(n % 251).unwrap()).collect();
    std::fs::write(root.path().join("data.raw"), &bytes).unwrap();
    std::fs::write(root.path().join("other"), "other").unwrap();
    let server = TestServer::start(ServeOptions::new(root.path())).unwrap();
    (root, bytes, server)
}

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(LONG))
        .build()
        .into()
}

/// Status, what arrived of the body, and whether it ended well.
fn get(server: &TestServer, path: &str, range: &str) -> (u16, Vec<u8>, bool) {
    let mut request = agent().get(format!("{}{path}", server.url()));
    if !range.is_empty() {
        request = request.header("Range", range);
    }
    let response = request.call().unwrap();
    let status = response.status().as_u16();
    let mut body = Vec::new();
    let whole = response
        .into_body()
        .into_reader()
        .read_to_end(&mut body)
        .is_ok();
    (status, body, whole)
}

#[test]
fn statuses_for_the_first_requests() {
    let (_root, bytes, server) = start();
    server
        .faults()
        .add(FaultRule::new(Fault::Status(500), "*.raw").first(2));
    server
        .faults()
        .add(FaultRule::new(Fault::Status(404), "/other"));
    assert_eq!(get(&server, "/data.raw", "").0, 500);
    assert_eq!(get(&server, "/data.raw", "").0, 500);
    assert_eq!(get(&server, "/data.raw", ""), (200, bytes, true));
    assert_eq!(get(&server, "/other", "").0, 404);
    server.faults().clear();
    assert_eq!(get(&server, "/other", "").0, 200);
}

#[test]
fn a_cut_lets_exactly_so_many_bytes_through() {
    let (_root, bytes, server) = start();
    for cut in [0_usize, 1, 65_535, 65_536, 65_537, 200_000, SIZE - 1] {
        server.faults().clear();
        server
            .faults()
            .add(FaultRule::new(Fault::Cut(cut as u64), "*"));
        let (status, body, whole) = get(&server, "/data.raw", "");
        assert_eq!((status, whole), (200, false), "{cut}");
        assert_eq!(body, bytes[..cut], "{cut}");
    }
    // The end itself is no cut.
    server.faults().clear();
    server
        .faults()
        .add(FaultRule::new(Fault::Cut(SIZE as u64), "*"));
    assert!(get(&server, "/data.raw", "").2);
    assert!(server.wait(LONG, |all| {
        let broken = all.iter().filter(|r| r.outcome == LoggedOutcome::Broken);
        broken.count() == 7
            && all
                .last()
                .is_some_and(|r| r.outcome == LoggedOutcome::Complete)
    }));
}

#[test]
fn a_client_resumes_after_cuts() {
    let (_root, bytes, server) = start();
    server
        .faults()
        .add(FaultRule::new(Fault::Cut(100_000), "*").first(2));
    let mut have = Vec::new();
    while have.len() < SIZE {
        let range = format!("bytes={}-", have.len());
        have.extend(get(&server, "/data.raw", &range).1);
    }
    assert_eq!(have, bytes);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_stall_holds_until_it_is_released() {
    let (_root, bytes, server) = start();
    server
        .faults()
        .add(FaultRule::new(Fault::Stall(150_000), "*"));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| get(&server, "/data.raw", ""));
        assert!(server.wait(LONG, |all| {
            all.first()
                .is_some_and(|r| r.outcome == LoggedOutcome::Stalled && r.sent == 150_000)
        }));
        assert!(!client.is_finished());
        server.faults().release();
        assert_eq!(client.join().unwrap(), (200, bytes, true));
    });
}

#[test]
fn stopping_ends_stalls() {
    let (_root, bytes, server) = start();
    server.faults().add(FaultRule::new(Fault::Stall(10), "*"));
    let url = format!("{}/data.raw", server.url());
    let client = std::thread::spawn(move || {
        let mut body = Vec::new();
        let response = agent().get(url).call().unwrap();
        let whole = response.into_body().into_reader().read_to_end(&mut body);
        (body, whole.is_ok())
    });
    assert!(server.wait(LONG, |all| {
        all.first()
            .is_some_and(|r| r.outcome == LoggedOutcome::Stalled)
    }));
    server.stop();
    assert_eq!(client.join().unwrap(), (bytes[..10].to_vec(), false));
}

#[test]
fn ranges_can_be_ignored() {
    let (_root, bytes, server) = start();
    assert_eq!(get(&server, "/data.raw", "bytes=299999-").0, 206);
    server.faults().add(FaultRule::new(Fault::IgnoreRange, "*"));
    assert_eq!(
        get(&server, "/data.raw", "bytes=299999-"),
        (200, bytes, true)
    );
}

#[test]
fn one_byte_can_be_wrong() {
    let (_root, bytes, server) = start();
    for at in [0, 65_536, SIZE - 1] {
        server.faults().clear();
        server
            .faults()
            .add(FaultRule::new(Fault::Corrupt(at as u64), "*"));
        let (_, body, whole) = get(&server, "/data.raw", "");
        assert!(whole);
        let wrong: Vec<_> = (0..SIZE).filter(|n| body[*n] != bytes[*n]).collect();
        assert_eq!(wrong, [at]);
    }
}

#[test]
fn a_client_that_leaves_is_noticed() {
    let (root, _, server) = start();
    // More than the sockets' buffers can take.
    std::fs::write(root.path().join("big"), vec![0; 64 << 20]).unwrap();
    let response = agent().get(format!("{}/big", server.url())).call().unwrap();
    drop(response);
    assert!(server.wait(LONG, |all| all[0].outcome == LoggedOutcome::Broken));
    let request = &server.requests()[0];
    assert!(request.sent < request.total);
}
