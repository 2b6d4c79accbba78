use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::gate::{GateStep, HeldRequest, RequestGate};
use super::super::places::HostPlaces;
use super::super::review::{Review, review};

fn held(bytes: &[u8]) -> HeldRequest {
    let mut rest = bytes;
    match RequestGate::new().next(&mut rest, Some(0)) {
        Some(GateStep::Review(request)) if rest.is_empty() => request,
        other => panic!("{other:?}"),
    }
}

fn chunked(body: &[u8], piece: usize) -> Vec<u8> {
    let mut all = b"Transfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in body.chunks(piece) {
        all.extend(format!("{:X};x=y\r\n", piece.len()).bytes());
        all.extend(piece);
        all.extend(b"\r\n");
    }
    all.extend(b"0\r\nSum: 1\r\n\r\n");
    all
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let head = format!("content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

const START: &[u8] = b"POST /v1.41/containers/create?name=c HTTP/1.1\r\nHost: d\r\nX-Y: z\r\n";

fn places() -> (tempfile::TempDir, HostPlaces) {
    let place = tempfile::tempdir().unwrap();
    let places = HostPlaces {
        workspace: Some(place.path().canonicalize().unwrap()),
        sockets: Vec::new(),
    };
    (place, places)
}

proptest! {
    #[test]
    fn a_request_that_is_changed_is_whole_and_says_the_same_otherwise(
        others in "[a-zäß\"\\\\\u{1}]{0,40}",
        number in any::<i64>(),
        piece in prop::option::of(1_usize..50),
        changes in any::<bool>(),
    ) {
        let (_place, places) = places();
        let workspace = places.workspace.clone().unwrap();
        let body = |path: &str| json!({
            "Image": others, "Cmd": [others, 1.5, null], "HostConfig": {
                "Memory": number, "Binds": [format!("{path}/x:/m:ro"), "name:/n"],
            },
        });
        let source = if changes { workspace.to_str().unwrap() } else { "/dev" };
        let before = body(source).to_string().into_bytes();
        let framed = match piece {
            Some(piece) => chunked(&before, piece),
            None => with_length(&before),
        };
        let request = [START, &framed].concat();
        let Review::Pass { bytes, needs_workspace } = review(&held(&request), &places) else {
            panic!("refused");
        };
        prop_assert_eq!(needs_workspace, changes);
        if !changes {
            prop_assert_eq!(bytes, request);
            return Ok(());
        }
        // It is one request again, with its length.
        let again = held(&bytes);
        let (head, after) = bytes.split_at(again.body_start);
        let head = String::from_utf8(head.to_vec()).unwrap();
        let length = format!("Content-Length: {}\r\n\r\n", after.len());
        prop_assert_eq!(head, String::from_utf8(START.to_vec()).unwrap() + &length);
        let after: Value = serde_json::from_slice(after).unwrap();
        prop_assert_eq!(after, body("/run/workspace"));
    }

    #[test]
    fn no_body_is_too_strange(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_place, places) = places();
        let request = [START, &with_length(&body)].concat();
        match review(&held(&request), &places) {
            Review::Pass { bytes, needs_workspace: false } => prop_assert_eq!(bytes, request),
            Review::Refuse(why) => prop_assert!(why.contains("JSON")),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_body_that_was_asked_for_is_not_asked_for_again() {
    let (_place, places) = places();
    let body = br#"{"HostConfig":{}}"#;
    let request = [
        b"POST /containers/create HTTP/1.1\r\nExpect: 100-continue\r\n".as_slice(),
        &chunked(body, 3),
    ];
    let Review::Pass { bytes, .. } = review(&held(&request.concat()), &places) else {
        panic!("refused");
    };
    let expected =
        "POST /containers/create HTTP/1.1\r\nContent-Length: 17\r\n\r\n{\"HostConfig\":{}}";
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn what_comes_after_the_body_counts_no_more_than_for_the_engine() {
    let (_place, places) = places();
    let body = br#"{"HostConfig":{"Binds":["/nowhere:/m"]}} trailing"#;
    let request = [START, &with_length(body)].concat();
    let Review::Refuse(why) = review(&held(&request), &places) else {
        panic!("passed");
    };
    assert!(why.contains("cannot see /nowhere"), "{why}");
}

#[test]
fn a_refusal_ends_connections_that_expect_so() {
    for (version, header, closes) in [
        ("1.1", "", false),
        ("1.1", "Connection: keep-alive\r\n", false),
        ("1.1", "connection: foo, Close\r\n", true),
        ("1.0", "", true),
    ] {
        let request = format!("POST /volumes/create HTTP/{version}\r\n{header}\r\n");
        let (answer, said) = held(request.as_bytes()).refusal("400 Bad Request", "no \"way\"");
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(said, closes);
        assert_eq!(answer.contains("\r\nConnection: close\r\n"), closes);
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"message":"no \"way\""}"#);
        assert!(answer.contains(&format!("Content-Length: {}\r\n", body.len())));
    }
}

#[test]
fn what_is_said_twice_is_refused() {
    let (_place, places) = places();
    for body in [
        r#"{"HostConfig":{"Binds":["/nowhere:/m"],"Binds":[]}}"#,
        r#"{"HostConfig":{},"HostConfig":{"Binds":[]}}"#,
        r#"{"HostConfig":{"Mounts":[{"Source":"/nowhere","Source":"/dev"}]}}"#,
        r#"{"HostConfig":{"\u0042inds":[],"Binds":[]}}"#,
    ] {
        let request = [START, &with_length(body.as_bytes())].concat();
        let Review::Refuse(why) = review(&held(&request), &places) else {
            panic!("passed: {body}");
        };
        assert!(why.contains(" twice"), "{why}");
    }
    // Names of the user's own may differ in their case alone.
    let body = br#"{"Labels":{"a":"1","A":"2"},"HostConfig":{}}"#;
    let request = [START, &with_length(body)].concat();
    let passed = review(&held(&request), &places);
    assert!(matches!(passed, Review::Pass { .. }), "{passed:?}");
}
