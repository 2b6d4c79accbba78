//! Requests that end because somebody wants them no more. Every time limit is an hour here: what
//! ends, ends because it was asked to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::channel;
use std::time::Duration;

use avocado_events::Cancel;
use avocado_http::HttpClient;
use avocado_http::{Transport, TransportError};

const HOUR: Duration = Duration::from_secs(3600);

fn http(cancel: &Cancel) -> HttpClient {
    HttpClient::new(&[], None, HOUR, HOUR).stopped_by(cancel)
}

#[test]
fn whatever_it_waits_for() {
    for said in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let cancel = Cancel::new();
        let http = http(&cancel);
        let (reading, reads) = channel();
        std::thread::scope(|scope| {
            let request = scope.spawn(|| {
                let mut body = http.get(&url, None)?.body;
                reading.send(()).unwrap();
                let mut bytes = Vec::new();
                body.read_to_end(&mut bytes)
                    .map_err(|e| TransportError::Connection(Box::new(e)))
            });
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(said.as_bytes()).unwrap();
            if said.ends_with("\n") || said.ends_with("half") {
                reads.recv().unwrap();
            }
            cancel.cancel();
            let error = request.join().unwrap().unwrap_err();
            let body = said.contains("\r\n\r\n");
            assert_eq!(
                matches!(error, TransportError::Cancelled),
                !body,
                "{error:?}"
            );
        });
        // It asks for nothing more.
        drop(listener);
        let error = http.get(&url, None).unwrap_err();
        assert!(matches!(error, TransportError::Cancelled), "{error:?}");
        assert!(!error.is_temporary());
    }
}

#[test]
fn a_pause_before_another_attempt() {
    let cancel = Cancel::new();
    let http = http(&cancel);
    std::thread::scope(|scope| {
        let pause = scope.spawn(|| http.wait(HOUR));
        cancel.cancel();
        pause.join().unwrap();
    });
    http.wait(HOUR);
}
