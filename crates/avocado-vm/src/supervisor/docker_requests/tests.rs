use proptest::prelude::*;

use super::{DockerRequests, MOST_OPEN};

/// Who says what, in turns.
#[derive(Debug, Clone, Copy)]
enum Said {
    Client(&'static str),
    Guest(&'static str),
}

use Said::{Client, Guest};

/// Each exchange, and whether it is work in its end.
const EXCHANGES: &[(&[Said], bool)] = &[
    (&[], false),
    (
        &[
            Client("GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"),
            Guest("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"),
        ],
        false,
    ),
    // Its headers come at once, its end much later.
    (
        &[
            Client(
                "POST /v1.41/containers/c/wait?condition=next-exit HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            ),
            Guest("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ],
        true,
    ),
    (
        &[
            Client("POST /v1.41/containers/c/wait HTTP/1.1\r\n\r\n"),
            Guest("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Guest("11\r\n{\"StatusCode\": 0}\r\n0\r\n\r\n"),
        ],
        false,
    ),
    // Another protocol from here on.
    (
        &[
            Client(
                "POST /v1.41/exec/e/start HTTP/1.1\r\nContent-Length: 2\r\nUpgrade: tcp\r\n\r\n{}",
            ),
            Guest(
                "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\nGET /events HTTP/1.1\r\n\r\n",
            ),
            Client("GET /v1.41/events HTTP/1.1\r\n\r\n"),
            Guest("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ],
        true,
    ),
    (
        &[
            Client("POST /v1.41/containers/c/attach?stream=1 HTTP/1.1\r\n\r\n"),
            Guest(
                "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nhello",
            ),
        ],
        true,
    ),
    (
        &[Client("POST /session HTTP/1.1\r\nUpgrade: h2c\r\n\r\n")],
        true,
    ),
    // What is sent along looks like a request, and is none.
    (
        &[
            Client(
                "POST /build HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
            ),
            Guest("HTTP/1.1 100 Continue\r\n\r\n"),
            Client("1a\r\nGET /events HTTP/1.1\r\n\r\nzz\r\n"),
        ],
        true,
    ),
    (
        &[
            Client(
                "POST /build HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nSum: 1\r\n\r\n",
            ),
            Guest(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            ),
            Client("\r\nPOST /containers/c/start HTTP/1.1\r\n\r\n"),
            Guest("HTTP/1.1 204 No Content\r\n\r\n"),
        ],
        false,
    ),
    // Refused before everything was sent.
    (
        &[
            Client("POST /build HTTP/1.1\r\nContent-Length: 10\r\n\r\n123"),
            Guest("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
        ],
        false,
    ),
    (
        &[
            Client("HEAD /_ping HTTP/1.1\r\n\r\n"),
            Guest("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
            Client("GET /images/json HTTP/1.1\r\n\r\n"),
            Guest("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ],
        false,
    ),
    // Programs that only watch.
    (
        &[
            Client("GET /v1.41/events?filters=x HTTP/1.1\r\n\r\n"),
            Guest("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
        ],
        false,
    ),
    (
        &[Client(
            "GET /v1.41/containers/c/logs?follow=1 HTTP/1.1\r\n\r\n",
        )],
        false,
    ),
    (
        &[Client("GET /v1.41/containers/c/stats HTTP/1.1\r\n\r\n")],
        false,
    ),
    (
        &[Client(
            "POST /v1.41/images/create?fromImage=x HTTP/1.1\r\n\r\n",
        )],
        true,
    ),
    // Not HTTP.
    (&[Client("hello\n\n"), Guest("hello\n\n")], false),
    (&[Client("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")], false),
    (
        &[Guest("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")],
        false,
    ),
    // An answer that is not understood ends with its connection.
    (
        &[
            Client("POST /build HTTP/1.1\r\n\r\n"),
            Guest("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ],
        true,
    ),
];

#[test]
fn a_request_is_work_until_its_answer_has_ended() {
    for (exchange, expected) in EXCHANGES {
        for piece in [1, 2, 7, usize::MAX] {
            let mut requests = DockerRequests::new();
            for said in *exchange {
                match said {
                    Client(text) => pieces(text, piece, |bytes| requests.client_says(bytes)),
                    Guest(text) => pieces(text, piece, |bytes| requests.guest_says(bytes)),
                }
            }
            assert_eq!(requests.is_work(), *expected, "{exchange:?} in {piece}");
        }
    }
}

fn pieces(text: &str, size: usize, mut to: impl FnMut(&[u8])) {
    text.as_bytes()
        .chunks(size.min(text.len()))
        .for_each(&mut to);
}

#[test]
fn a_head_without_end_is_given_up() {
    let mut requests = DockerRequests::new();
    for _ in 0..100 {
        requests.client_says(&[b'x'; 1 << 10]);
    }
    requests.client_says(b"\r\n\r\nPOST /build HTTP/1.1\r\n\r\n");
    assert!(!requests.is_work());
}

proptest! {
    #[test]
    fn whatever_is_said_is_read_to_its_end(
        said in prop::collection::vec((any::<bool>(), "[A-Z0-9 /:\r\na-z.]{0,60}"), 0..20)
    ) {
        let mut requests = DockerRequests::new();
        for (client, text) in said {
            if client {
                requests.client_says(text.as_bytes());
            } else {
                requests.guest_says(text.as_bytes());
            }
        }
        let work = requests.open.iter().filter(|request| request.is_work).count();
        prop_assert_eq!(requests.work, work);
    }
}

#[test]
fn one_that_asks_without_waiting_for_answers_is_not_read_along_for_ever() {
    let mut requests = DockerRequests::new();
    for _ in 0..3 * MOST_OPEN {
        requests.client_says(b"GET /_ping HTTP/1.1\r\n\r\n");
        assert!(requests.open.len() <= MOST_OPEN);
    }
    assert!(!requests.is_work());
    requests.guest_says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert!(!requests.is_work());
}
