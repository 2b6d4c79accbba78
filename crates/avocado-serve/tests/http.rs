//! A server's files over real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use avocado_serve::{FileServer, RequestOutcome, ServeError, ServeOptions, ServedRequest};
use tempfile::TempDir;
use ureq::http::Response;
use ureq::{Agent, Body};

const LONG: Duration = Duration::from_secs(20);

fn site() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("ten"), "0123456789").unwrap();
    std::fs::write(root.path().join("empty"), "").unwrap();
    std::fs::create_dir(root.path().join("sub")).unwrap();
    std::fs::write(root.path().join("sub/a b+c.json"), "{}").unwrap();
    root
}

/// What a server tells about its requests, in the order in which it does.
#[derive(Clone, Default)]
struct Reports(Arc<(Mutex<Vec<ServedRequest>>, Condvar)>);

impl Reports {
    fn start(&self, root: &TempDir) -> FileServer {
        let reports = self.clone();
        FileServer::start(ServeOptions {
            on_request: Some(Arc::new(move |request: &ServedRequest| {
                let (list, grown) = &*reports.0;
                list.lock().unwrap().push(request.clone());
                grown.notify_all();
            })),
            ..ServeOptions::new(root.path())
        })
        .unwrap()
    }

    /// Waits until one of them is as `wanted` says; all of them then.
    fn wait(&self, wanted: impl Fn(&ServedRequest) -> bool) -> Vec<ServedRequest> {
        let (list, grown) = &*self.0;
        let list = list.lock().unwrap();
        let missing = |list: &mut Vec<ServedRequest>| !list.iter().any(&wanted);
        let (list, waited) = grown.wait_timeout_while(list, LONG, missing).unwrap();
        assert!(!waited.timed_out(), "{list:?}");
        list.clone()
    }
}

fn start(root: &TempDir) -> FileServer {
    FileServer::start(ServeOptions::new(root.path())).unwrap()
}

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(LONG))
        .build()
        .into()
}

fn get(server: &FileServer, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = agent().get(format!("{}{path}", server.url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.call().unwrap()
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

fn text(response: Response<Body>) -> String {
    response.into_body().read_to_string().unwrap()
}

/// Sends `request` as it is and returns everything that comes back until the end.
fn raw(server: &FileServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn get_raw(server: &FileServer, target: &str) -> String {
    let answer = raw(
        server,
        &format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    );
    answer.split_whitespace().nth(1).unwrap_or("").to_owned()
}

#[test]
fn a_file_and_its_headers() {
    let root = site();
    let server = start(&root);
    let response = get(&server, "/ten", &[]);
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-length"), "10");
    assert_eq!(header(&response, "accept-ranges"), "bytes");
    assert!(header(&response, "etag").starts_with('"'));
    assert!(header(&response, "last-modified").ends_with(" GMT"));
    assert_eq!(text(response), "0123456789");

    let response = get(&server, "/sub/a%20b+c.json?query=../x", &[]);
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(text(response), "{}");

    let response = get(&server, "/empty", &[]);
    assert_eq!(response.status(), 200);
    assert_eq!(text(response), "");
}

#[test]
fn head_has_the_headers_of_get() {
    let root = site();
    let server = start(&root);
    let response = agent()
        .head(format!("{}/ten", server.url()))
        .call()
        .unwrap();
    assert_eq!(header(&response, "content-length"), "10");
    assert_eq!(
        header(&response, "etag"),
        header(&get(&server, "/ten", &[]), "etag")
    );
    // Nothing may follow the head, or a kept connection would be out of step.
    let answer = raw(
        &server,
        "HEAD /ten HTTP/1.1\r\nHost: x\r\n\r\nGET /empty HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert!(!answer.contains("0123456789"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
}

#[test]
fn what_is_no_file_is_not_found() {
    let root = site();
    let server = start(&root);
    for path in ["/", "/sub", "/sub/", "/nothing", "/ten/", "/ten/x", "/%zz"] {
        assert_eq!(get_raw(&server, path), "404", "{path}");
    }
    let answer = raw(
        &server,
        "POST /ten HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(
        answer.to_lowercase().contains("allow: get, head"),
        "{answer}"
    );
}

#[test]
fn nothing_outside_the_root_is_reached() {
    let outer = site();
    let root = outer.path().join("sub");
    std::fs::write(root.join("inside"), "inside").unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, root.join(name)).unwrap();
    link("../ten", "out");
    link(outer.path().join("ten").to_str().unwrap(), "absolute");
    link("..", "up");
    link("loop", "loop");
    link("inside", "in");
    let server = FileServer::start(ServeOptions::new(&root)).unwrap();
    for path in [
        "/../ten",
        "/%2e%2e/ten",
        "/..%2ften",
        "/./../ten",
        "/x/../../ten",
        "/out",
        "/absolute",
        "/up/ten",
        "/up/sub/inside",
        "/loop",
        "//etc/passwd",
        "/%2fetc/passwd",
    ] {
        assert_eq!(get_raw(&server, path), "404", "{path}");
    }
    assert_eq!(text(get(&server, "/in", &[])), "inside");
}

#[test]
fn a_fifo_does_not_hold_anything_up() {
    let root = site();
    let fifo = root.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    assert_eq!(get(&start(&root), "/fifo", &[]).status(), 404);
}

#[test]
fn ranges() {
    let root = site();
    let server = start(&root);
    for (range, status, content_range, body) in [
        ("bytes=2-4", 206, "bytes 2-4/10", "234"),
        ("bytes=7-", 206, "bytes 7-9/10", "789"),
        ("bytes=-3", 206, "bytes 7-9/10", "789"),
        ("bytes=0-99", 206, "bytes 0-9/10", "0123456789"),
        ("bytes=1-2,4-5", 200, "", "0123456789"),
        ("bytes=x", 200, "", "0123456789"),
    ] {
        let response = get(&server, "/ten", &[("Range", range)]);
        assert_eq!(response.status(), status, "{range}");
        assert_eq!(header(&response, "content-range"), content_range, "{range}");
        assert_eq!(
            header(&response, "content-length"),
            body.len().to_string(),
            "{range}"
        );
        assert_eq!(text(response), body, "{range}");
    }
    let response = get(&server, "/ten", &[("Range", "bytes=10-")]);
    assert_eq!(response.status(), 416);
    assert_eq!(header(&response, "content-range"), "bytes */10");
}

#[test]
fn conditions() {
    let root = site();
    let server = start(&root);
    let response = get(&server, "/ten", &[]);
    let etag = header(&response, "etag").to_owned();
    let date = header(&response, "last-modified").to_owned();
    let list = format!("\"other\", {etag}");
    let weak = format!("W/{etag}");
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    let part = ("Range", "bytes=5-");
    for (headers, status) in [
        (vec![("If-None-Match", etag.as_str())], 304),
        (vec![("If-None-Match", &list)], 304),
        (vec![("If-None-Match", &weak)], 304),
        (vec![("If-None-Match", "*")], 304),
        (vec![("If-None-Match", "\"other\"")], 200),
        (vec![("If-Modified-Since", &date)], 304),
        (vec![("If-Modified-Since", old)], 200),
        (
            vec![("If-None-Match", "\"x\""), ("If-Modified-Since", &date)],
            200,
        ),
        (vec![part, ("If-Range", &etag)], 206),
        (vec![part, ("If-Range", &date)], 206),
        (vec![part, ("If-Range", &weak)], 200),
        (vec![part, ("If-Range", "\"other\"")], 200),
        (vec![part, ("If-Range", old)], 200),
    ] {
        let response = get(&server, "/ten", &headers);
        assert_eq!(response.status(), status, "{headers:?}");
        assert_eq!(header(&response, "etag"), etag, "{headers:?}");
    }

    // Same size, same date, written in place: still another file.
    let path = root.path().join("ten");
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "9876543210").unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(before).unwrap();
    let response = get(&server, "/ten", &[part, ("If-Range", &etag)]);
    assert_eq!(response.status(), 200);
    assert_eq!(text(response), "9876543210");
}

#[test]
fn a_token_is_asked_for() {
    let root = site();
    let server = FileServer::start(ServeOptions {
        token: Some("s3cret".into()),
        ..ServeOptions::new(root.path())
    })
    .unwrap();
    for (given, status) in [
        (None, 401),
        (Some("Bearer s3cre"), 401),
        (Some("Bearer s3cret "), 200),
        (Some("Bearer s3crets"), 401),
        (Some("Bearer S3CRET"), 401),
        (Some("Basic s3cret"), 401),
        // `me:s3cret`, `me:other` and `s3cret`.
        (Some("Basic bWU6czNjcmV0"), 200),
        (Some("Basic bWU6b3RoZXI="), 401),
        (Some("Basic czNjcmV0"), 401),
        (Some("Bearer"), 401),
        (Some("bearer s3cret"), 200),
    ] {
        let headers: Vec<_> = given.iter().map(|g| ("Authorization", *g)).collect();
        let response = get(&server, "/ten", &headers);
        assert_eq!(response.status(), status, "{given:?}");
        if status == 401 {
            assert!(header(&response, "www-authenticate").starts_with("Bearer"));
            assert!(!text(response).contains("0123"));
        }
    }
}

#[test]
fn connections_are_kept() {
    let root = site();
    let reports = Reports::default();
    let server = reports.start(&root);
    let agent = agent();
    for _ in 0..3 {
        let mut response = agent.get(format!("{}/ten", server.url())).call().unwrap();
        response.body_mut().read_to_string().unwrap();
    }
    let requests = reports.wait(|r| r.number == 2);
    assert!(requests.iter().all(|r| r.number < 3), "{requests:?}");
    assert!(
        requests.windows(2).all(|w| w[0].client == w[1].client),
        "{requests:?}"
    );
}

#[test]
fn progress_is_told_per_client() {
    let root = site();
    let big = vec![7; 3_000_000];
    std::fs::write(root.path().join("big"), &big).unwrap();
    let reports = Reports::default();
    let server = reports.start(&root);
    let response = get(&server, "/big", &[("Range", "bytes=1000000-")]);
    assert_eq!(
        response.into_body().read_to_vec().unwrap(),
        big[1_000_000..]
    );
    let told = reports.wait(|r| r.outcome == RequestOutcome::Complete);
    let (first, last) = (told.first().unwrap(), told.last().unwrap());
    assert_eq!((first.sent, first.total), (0, 2_000_000));
    assert_eq!((last.sent, last.total), (2_000_000, 2_000_000));
    assert_eq!(last.path, "/big");
    assert_eq!(last.range.as_deref(), Some("bytes=1000000-"));
    assert!(told.len() > 10, "{} reports", told.len());
    assert!(told.windows(2).all(|w| w[0].sent <= w[1].sent));
    assert!(told.iter().all(|r| r.number == 0));
}

#[test]
fn many_clients_at_once() {
    let root = site();
    let bytes: Vec<u8> = (0..500_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    std::fs::write(root.path().join("data"), &bytes).unwrap();
    let server = start(&root);
    std::thread::scope(|scope| {
        for n in 0..16_usize {
            let (server, bytes) = (&server, &bytes);
            scope.spawn(move || {
                let range = format!("bytes={}-", n * 1000);
                let response = get(server, "/data", &[("Range", &range)]);
                let body = response.into_body().read_to_vec().unwrap();
                assert_eq!(body, bytes[n * 1000..], "client {n}");
            });
        }
    });
}

#[test]
fn stopping_frees_the_port_and_lets_answers_finish() {
    let root = site();
    std::fs::write(root.path().join("big"), vec![1; 8_000_000]).unwrap();
    let reports = Reports::default();
    let server = reports.start(&root);
    let address = server.address();
    let url = format!("{}/big", server.url());
    let client = std::thread::spawn(move || {
        let mut response = agent().get(url).call().unwrap();
        response
            .body_mut()
            .with_config()
            .limit(9_000_000)
            .read_to_vec()
    });
    reports.wait(|_| true);
    server.stop();
    assert_eq!(client.join().unwrap().unwrap().len(), 8_000_000);
    assert!(TcpStream::connect(address).is_err());
    // The address can be had again at once.
    FileServer::start(ServeOptions {
        address,
        ..ServeOptions::new(root.path())
    })
    .unwrap();
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let root = site();
    let server = start(&root);
    let taken = FileServer::start(ServeOptions {
        address: server.address(),
        ..ServeOptions::new(root.path())
    });
    assert!(
        matches!(taken, Err(ServeError::Listen { address, .. }) if address == server.address())
    );
    for path in ["ten", "missing"] {
        let path = root.path().join(path);
        let error = FileServer::start(ServeOptions::new(&path)).unwrap_err();
        assert!(matches!(&error, ServeError::Root { path: p, .. } if *p == path));
    }
}

/// Sends a head and reads what comes until the server closes the connection.
fn answer_to(server: &FileServer, head: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(head.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn a_head_that_is_too_long_is_refused_and_what_is_reported_is_short() {
    let root = site();
    let reports = Reports::default();
    let server = reports.start(&root);
    let head = |path: &str| format!("GET /{path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    for length in [64 << 10, 256 << 10] {
        let answer = answer_to(&server, &head(&"a".repeat(length)));
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    let answer = answer_to(&server, &head(&"b".repeat(8 << 10)));
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let reported = reports.wait(|r| r.outcome == RequestOutcome::Complete);
    assert!(reported.iter().all(|r| r.path.len() < 2 << 10));
    assert!(reported.iter().all(|r| r.path.starts_with("/bb")));
    // And it goes on.
    assert_eq!(text(get(&server, "/ten", &[])), "0123456789");
}
