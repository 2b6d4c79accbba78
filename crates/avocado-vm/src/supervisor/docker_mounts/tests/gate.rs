use proptest::prelude::*;

use super::super::gate::{GateStep, RequestGate};
use crate::supervisor::docker_requests::MOST_OPEN;

/// What became of the bytes of a client.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    Passed(String),
    Asked,
    Reviewed(String),
    Unreadable,
}

use Became::{Asked, Passed, Reviewed, Unreadable};

/// Gives a gate the text in pieces. Passed pieces are joined.
fn run(text: &str, piece: usize, open: impl Fn(usize) -> Option<usize>) -> Vec<Became> {
    let mut gate = RequestGate::new();
    let mut all = Vec::new();
    let mut note = |step: GateStep<'_>| {
        match step {
            GateStep::Pass(bytes) => {
                assert!(!bytes.is_empty());
                let text = String::from_utf8(bytes.into_owned()).unwrap();
                match all.last_mut() {
                    Some(Passed(last)) => last.push_str(&text),
                    _ => all.push(Passed(text)),
                }
            }
            GateStep::AskForBody => all.push(Asked),
            GateStep::Review(request) => {
                all.push(Reviewed(String::from_utf8(request.bytes).unwrap()))
            }
            GateStep::Unreadable(_) => {
                all.push(Unreadable);
                return false;
            }
        }
        true
    };
    for (number, mut bytes) in text.as_bytes().chunks(piece).enumerate() {
        while let Some(step) = gate.next(&mut bytes, open(number)) {
            if !note(step) {
                return all;
            }
        }
        assert!(bytes.is_empty() || gate.waits());
    }
    let rest = gate.into_rest();
    if !rest.is_empty() {
        note(GateStep::Pass(rest.into()));
    }
    all
}

const CREATE: &str = "POST /v1.41/containers/create?name=c HTTP/1.1\r\nHost: d\r\n\
                      Content-Length: 2\r\n\r\n{}";
const CHUNKED: &str = "POST /containers/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                       1\r\n{\r\n1;x\r\n}\r\n0\r\nSum: 1\r\n\r\n";
const PING: &str = "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n";
/// What is sent along looks like a request that names paths.
const BUILD: &str = "POST /build HTTP/1.1\r\nContent-Length: 36\r\n\r\n\
                     POST /containers/create HTTP/1.1\r\n\r\n";

#[test]
fn requests_that_name_paths_are_held_until_they_are_whole_and_nothing_else_is() {
    let passed = |text: &str| Passed(text.to_owned());
    let reviewed = |text: &str| Reviewed(text.to_owned());
    for (text, expected) in [
        (String::new(), vec![]),
        (PING.to_owned(), vec![passed(PING)]),
        (CREATE.to_owned(), vec![reviewed(CREATE)]),
        (
            format!("{PING}{CREATE}{BUILD}{CHUNKED}\r\n{CREATE}{PING}"),
            vec![
                passed(PING),
                reviewed(CREATE),
                passed(BUILD),
                reviewed(CHUNKED),
                passed("\r\n"),
                reviewed(CREATE),
                passed(PING),
            ],
        ),
        // Without a body, and the same whole address.
        (
            "POST http://d/services/s/update HTTP/1.1\r\n\r\n".to_owned(),
            vec![reviewed("POST http://d/services/s/update HTTP/1.1\r\n\r\n")],
        ),
        (
            "POST /containers/c/start HTTP/1.1\r\n\r\n".to_owned(),
            vec![passed("POST /containers/c/start HTTP/1.1\r\n\r\n")],
        ),
        // Cut off: the guest says what is wrong with it.
        ("POST /vo".to_owned(), vec![passed("POST /vo")]),
        (
            "POST /volumes/create HTTP/1.1\r\nContent-Length: 5\r\n\r\n{".to_owned(),
            vec![passed(
                "POST /volumes/create HTTP/1.1\r\nContent-Length: 5\r\n\r\n{",
            )],
        ),
        // Not HTTP.
        ("hello".to_owned(), vec![passed("hello")]),
        (
            format!("hello\n\n{CREATE}"),
            vec![passed(&format!("hello\n\n{CREATE}"))],
        ),
        (
            "POST /volumes/create HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n1"
                .to_owned(),
            vec![],
        ),
        (
            "POST /volumes/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
            vec![Unreadable],
        ),
        (
            "POST /volumes/create HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n{".to_owned(),
            vec![Unreadable],
        ),
    ] {
        for piece in [1, 2, 7, 64, usize::MAX >> 1] {
            let became = run(&text, piece, |_| Some(0));
            if text.contains("Expect") {
                // Asked for where the body is not there yet.
                let whole = Reviewed(text.clone());
                let all: Vec<&Became> = became.iter().filter(|one| **one != Asked).collect();
                assert_eq!(all, [&whole], "in {piece}");
                match piece {
                    1 => assert_eq!(became.len(), 2),
                    piece if piece > text.len() => assert_eq!(became.len(), 1),
                    _ => {}
                }
                continue;
            }
            assert_eq!(became, expected, "{text:?} in {piece}");
        }
    }
}

#[test]
fn what_comes_before_an_answer_waits_and_passes_should_it_be_no_request() {
    let mut gate = RequestGate::new();
    let mut bytes = CREATE.as_bytes();
    assert_eq!(gate.next(&mut bytes, Some(1)), None);
    assert!(gate.waits());
    // The connection was turned into another protocol meanwhile.
    let step = gate.next(&mut bytes, None);
    assert_eq!(step, Some(GateStep::Pass(CREATE.as_bytes().into())));
    assert!(!gate.waits() && !gate.holds());

    // No more requests than can be read along.
    let mut gate = RequestGate::new();
    let mut bytes = PING.as_bytes();
    assert_eq!(gate.next(&mut bytes, Some(MOST_OPEN)), None);
    assert!(gate.waits() && bytes.len() == PING.len());
    let step = gate.next(&mut bytes, Some(MOST_OPEN - 1));
    assert_eq!(step, Some(GateStep::Pass(PING.as_bytes().into())));
}

#[test]
fn what_is_held_is_bounded() {
    let mut gate = RequestGate::new();
    let mut head: &[u8] = b"POST /containers/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(gate.next(&mut head, Some(0)), None);
    let piece = [b"ffff\r\n".as_slice(), &[b'x'; 0xffff], b"\r\n"].concat();
    let mut sent = 0;
    loop {
        sent += piece.len();
        assert!(sent < 5 << 20);
        match gate.next(&mut piece.as_slice(), Some(0)) {
            None => {}
            Some(GateStep::Unreadable(why)) => break assert!(why.why().contains("4 MiB")),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn after_a_head_that_is_too_long_nothing_passes() {
    let long = |start: &str, size: usize| format!("{start}X: {}\r\n\r\n", "x".repeat(size));
    let get = "GET /_ping HTTP/1.1\r\n";
    let post = "POST /containers/create HTTP/1.1\r\n";
    let line = format!("POST /volumes/create?x={} HTTP/1.1\r\n", "x".repeat(70_000));
    // Longer than most, and still looked at.
    let pings = format!("{}{CREATE}", long(get, 900_000));
    let became = run(&pings, 1 << 16, |_| Some(0));
    assert!(matches!(became.as_slice(), [Passed(_), Reviewed(last)] if last == CREATE));
    let became = run(&long(&line, 1), 1 << 16, |_| Some(0));
    assert!(matches!(became.as_slice(), [Reviewed(_)]));

    let without_line = format!("POST /{}", "x".repeat(2 << 20));
    let get_without_line = format!("GET /{}", "x".repeat(2 << 20));
    for text in [
        long(get, 2 << 20),
        long(post, 2 << 20),
        without_line,
        get_without_line,
    ] {
        let mut gate = RequestGate::new();
        let mut passed = 0;
        let mut why = None;
        for mut piece in text.as_bytes().chunks(1 << 16) {
            match gate.next(&mut piece, Some(0)) {
                None => {}
                Some(GateStep::Pass(bytes)) => passed += bytes.len(),
                Some(GateStep::Unreadable(step)) => why = why.or(Some(step)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(why.unwrap().status(), "431 Request Header Fields Too Large");
        assert!(passed <= 1 << 20);
        // Nor does what comes then.
        let next = gate.next(&mut CREATE.as_bytes(), Some(0));
        assert!(matches!(next, Some(GateStep::Unreadable(_))), "{next:?}");
    }

    // What only looked like one is all there.
    let mut gate = RequestGate::new();
    let text = long(get, 2 << 20);
    let mut came = Vec::new();
    for (number, mut piece) in text.as_bytes().chunks(1 << 16).enumerate() {
        let open = (number < 20).then_some(1);
        while let Some(step) = gate.next(&mut piece, open) {
            match step {
                GateStep::Pass(bytes) => came.extend_from_slice(&bytes),
                other => panic!("{other:?}"),
            }
        }
        if !piece.is_empty() {
            // It waits for the answer, which says that it is none.
            while let Some(GateStep::Pass(bytes)) = gate.next(&mut piece, None) {
                came.extend_from_slice(&bytes);
            }
        }
    }
    assert_eq!(came.len(), text.len());
    assert!(came == text.as_bytes());
}

#[test]
fn another_version_of_http_does_not_pass() {
    let became = run("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 3, |_| Some(0));
    assert_eq!(became, [Unreadable]);
    let patch = "PROPFIND / HTTP/1.1\r\n\r\n";
    assert_eq!(run(patch, 1, |_| Some(0)), [Passed(patch.to_owned())]);
}

proptest! {
    /// Whatever is sent, in whatever pieces, whenever the connection turns into another protocol.
    #[test]
    fn no_byte_is_lost_or_reordered(
        parts in prop::collection::vec(
            prop_oneof![
                Just(CREATE.to_owned()), Just(CHUNKED.to_owned()), Just(PING.to_owned()),
                Just(BUILD.to_owned()), Just("POST /".to_owned()), "[a-z0-9 /:\r\n]{0,40}",
            ],
            0..8,
        ),
        piece in 1_usize..100,
        turns in prop::option::of(0_usize..20),
    ) {
        let text = parts.concat();
        let open = |number| match turns {
            Some(turn) if number >= turn => None,
            _ => Some(0),
        };
        let became = run(&text, piece, open);
        if !became.contains(&Unreadable) {
            let all: String = became.into_iter().filter_map(|one| match one {
                Passed(text) | Reviewed(text) => Some(text),
                Asked | Unreadable => None,
            }).collect();
            prop_assert_eq!(all, text);
        }
    }
}
