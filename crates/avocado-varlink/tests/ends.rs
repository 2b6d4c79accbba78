//! Listening, and the client.
#![allow(missing_docs)]

mod common;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use avocado_varlink::client::{ClientError, VarlinkAddress, VarlinkClient};
use avocado_varlink::server::{ListenError, Listener};
use common::*;
use serde_json::json;

#[test]
fn binding_respects_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(
        Listener::bind(&path, 0o660),
        Err(ListenError::NotASocket(_))
    ));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_file(&path).unwrap();

    // What a dead service left behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = Listener::bind(&path, 0o640).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert!(matches!(
        Listener::bind(&path, 0o660),
        Err(ListenError::InUse(_))
    ));
    drop(listener);
    assert!(!path.exists());
    let missing = directory.path().join("missing/sock");
    assert!(matches!(
        Listener::bind(&missing, 0o660),
        Err(ListenError::System { .. })
    ));
}

#[test]
fn the_client_says_what_went_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let address = VarlinkAddress::of(directory.path().join("none"));
    assert!(matches!(
        VarlinkClient::connect(&address),
        Err(ClientError::Connect { .. })
    ));
    for bad in ["", "/run/x", "unix:", "unix:x", "unix:@x", "tcp:1.2.3.4:5"] {
        assert!(bad.parse::<VarlinkAddress>().is_err(), "{bad}");
    }
    assert_eq!(
        "unix:/a;b=c".parse::<VarlinkAddress>().unwrap(),
        VarlinkAddress::of("/a")
    );

    let listener = std::os::unix::net::UnixListener::bind(address.path()).unwrap();
    type Check = fn(&ClientError) -> bool;
    let cases: [(&[u8], Check); 5] = [
        (b"", |e| matches!(e, ClientError::Closed(_))),
        (b"{\"parameters\":{", |e| {
            matches!(e, ClientError::Closed(_))
        }),
        (b"HTTP/1.1 400 Bad Request\r\n\0", |e| {
            matches!(e, ClientError::Protocol { .. })
        }),
        (b"{\"parameters\":{\"n\":\"x\"}}\0", |e| {
            matches!(e, ClientError::Reply { .. })
        }),
        (
            b"{\"error\":\"a.B\",\"parameters\":{\"reason\":\"why\"}}\0",
            |e| matches!(e, ClientError::Service { .. }) && e.to_string() == "a.B (reason: why)",
        ),
    ];
    for (answer, expected) in cases {
        #[derive(serde::Deserialize, Debug)]
        struct Number {
            #[allow(dead_code)]
            n: i64,
        }
        let mut client = VarlinkClient::connect(&address).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let peer = std::thread::spawn(move || {
            read_one(&mut stream);
            stream.write_all(answer).unwrap();
        });
        let error = client.call::<Number>("a.B", &json!({})).unwrap_err();
        assert!(expected(&error), "{error:?}");
        peer.join().unwrap();
    }
}
