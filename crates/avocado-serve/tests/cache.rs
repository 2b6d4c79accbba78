//! A server that keeps what it is given, as the cache of a team.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use avocado_serve::{FileServer, ServeOptions, UploadOptions};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;
use ureq::Agent;

fn start(root: &TempDir, options: UploadOptions, token: Option<&str>) -> FileServer {
    FileServer::start(ServeOptions {
        token: token.map(str::to_owned),
        uploads: Some(options),
        ..ServeOptions::new(root.path())
    })
    .unwrap()
}

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into()
}

fn put(server: &FileServer, path: &str, bytes: &[u8], token: Option<&str>) -> u16 {
    let mut request = agent().put(format!("{}{path}", server.url()));
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    request.send(bytes).unwrap().status().as_u16()
}

fn get(server: &FileServer, path: &str) -> (u16, Vec<u8>) {
    let mut response = agent()
        .get(format!("{}{path}", server.url()))
        .call()
        .unwrap();
    let status = response.status().as_u16();
    (status, response.body_mut().read_to_vec().unwrap())
}

fn name(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let digits = digest.as_ref().iter().map(|b| format!("{b:02x}"));
    format!("/cas/{}", digits.collect::<String>())
}

fn files(root: &TempDir) -> usize {
    let directories = ["ac", "cas"].into_iter();
    let read = directories.filter_map(|name| fs::read_dir(root.path().join(name)).ok());
    read.flatten().count()
}

#[test]
fn it_gives_back_what_it_was_given() {
    let root = tempfile::tempdir().unwrap();
    let server = start(&root, UploadOptions::default(), None);
    let key = format!("/ac/{}", "0a".repeat(32));
    assert_eq!(get(&server, &key).0, 404);
    assert_eq!(put(&server, &key, b"first", None), 201);
    assert_eq!(put(&server, &key, b"second", None), 201);
    assert_eq!(get(&server, &key), (200, b"second".to_vec()));
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    assert_eq!(put(&server, &name(&large), &large, None), 201);
    assert!(get(&server, &name(&large)) == (200, large));
    let head = agent()
        .head(format!("{}{key}", server.url()))
        .call()
        .unwrap();
    assert_eq!(head.status(), 200);
}

#[test]
fn it_keeps_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let options = UploadOptions {
        max_file: 10,
        ..UploadOptions::default()
    };
    let server = start(&root, options, None);
    let digits = "0a".repeat(32);
    for (path, bytes, status) in [
        (name(b"one"), &b"two"[..], 422),
        (format!("/ac/{digits}"), b"more than ten", 413),
        (format!("/ac/{}", &digits[1..]), b"x", 405),
        (format!("/ac/{}", digits.to_uppercase()), b"x", 405),
        (format!("/{digits}"), b"x", 405),
        ("/cas/../ac/x".to_owned(), b"x", 405),
        (format!("/ac/..%2f..%2f{digits}"), b"x", 405),
        ("/".to_owned(), b"x", 405),
    ] {
        assert_eq!(put(&server, &path, bytes, None), status, "{path}");
    }
    // One that goes away in the middle.
    let mut cut = TcpStream::connect(server.address()).unwrap();
    let head = format!("PUT /ac/{digits} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf");
    cut.write_all(head.as_bytes()).unwrap();
    cut.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = cut.read_to_string(&mut answer);
    // One that does not say how long it is.
    let mut endless = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "PUT /ac/{digits} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    );
    endless.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    endless.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 411"), "{answer}");
    drop(server);
    assert_eq!(files(&root), 0);
    for entry in fs::read_dir(root.path()).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(name == "ac" || name == "cas", "{name:?}");
    }
}

#[test]
fn who_may_read_need_not_write() {
    let root = tempfile::tempdir().unwrap();
    let key = format!("/ac/{}", "0a".repeat(32));
    let server = start(&root, UploadOptions::default(), Some("read"));
    assert_eq!(put(&server, &key, b"x", None), 401);
    assert_eq!(put(&server, &key, b"x", Some("read")), 201);
    drop(server);
    let options = UploadOptions {
        token: Some("push".to_owned()),
        ..UploadOptions::default()
    };
    let server = start(&root, options, None);
    assert_eq!(put(&server, &key, b"y", None), 401);
    assert_eq!(put(&server, &key, b"y", Some("read")), 401);
    assert_eq!(get(&server, &key), (200, b"x".to_vec()));
    assert_eq!(put(&server, &key, b"y", Some("push")), 201);
    assert_eq!(get(&server, &key), (200, b"y".to_vec()));
    drop(server);
    // Without uploads nobody writes.
    let server = FileServer::start(ServeOptions::new(root.path())).unwrap();
    assert_eq!(put(&server, &key, b"z", None), 405);
}

#[test]
fn what_was_not_used_for_longest_leaves() {
    let root = tempfile::tempdir().unwrap();
    let options = UploadOptions {
        max_size: Some(25),
        ..UploadOptions::default()
    };
    let server = start(&root, options, None);
    let [old, older] = [b"0123456789", b"abcdefghij"].map(|bytes| {
        assert_eq!(put(&server, &name(bytes), bytes, None), 201);
        name(bytes)
    });
    for (path, age) in [(&old, 20), (&older, 10)] {
        let file = fs::File::open(root.path().join(&path[1..])).unwrap();
        let then = SystemTime::now() - Duration::from_secs(age);
        file.set_modified(then).unwrap();
    }
    assert_eq!(get(&server, &old).0, 200);
    assert_eq!(
        put(&server, &name(b"0123456789abc"), b"0123456789abc", None),
        201
    );
    assert_eq!((get(&server, &old).0, get(&server, &older).0), (200, 404));
}

/// Who gives an entry asks for its blobs once more, and so they stay longer than it: an entry without
/// them would be there in vain.
#[test]
fn what_was_asked_for_after_an_entry_leaves_after_it() {
    let root = tempfile::tempdir().unwrap();
    let options = UploadOptions {
        max_size: Some(25),
        ..UploadOptions::default()
    };
    let server = start(&root, options, None);
    let blob = name(b"0123456789");
    let entry = format!("/ac/{}", "0".repeat(64));
    assert_eq!(put(&server, &blob, b"0123456789", None), 201);
    assert_eq!(put(&server, &entry, b"names blob", None), 201);
    let url = format!("{}{blob}", server.url());
    assert_eq!(agent().head(&url).call().unwrap().status(), 200);
    assert_eq!(put(&server, &name(b"abcdefghij"), b"abcdefghij", None), 201);
    assert_eq!((get(&server, &entry).0, get(&server, &blob).0), (404, 200));
}
