use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(text: &str) -> Result<CallMessage, Malformed> {
    CallMessage::parse(text.as_bytes())
}

#[test]
fn what_closes_the_connection() {
    for bad in [
        "",
        " ",
        "{",
        "nonsense",
        "[]",
        "null",
        "\"a.B\"",
        "{}",
        r#"{"parameters":{}}"#,
        r#"{"method":null}"#,
        r#"{"method":1}"#,
        r#"{"method":"a.B"} x"#,
        r#"{"method":"a.B"}{"method":"a.B"}"#,
        r#"{"method":"a.B","method":"a.C"}"#,
        r#"{"method":"a.B","more":1}"#,
        r#"{"method":"a.B","oneway":"true"}"#,
        r#"{"method":"a.B","upgrade":[]}"#,
        r#"{"method":"a.B","more":true,"oneway":true}"#,
        r#"{"method":"a.B","more":true,"upgrade":true}"#,
        r#"{"method":"a.B","oneway":true,"upgrade":true}"#,
        r#"{"method":"a.B","more":true,"oneway":true,"upgrade":true}"#,
        r#"{"method":"a.B","parameters":[]}"#,
        r#"{"method":"a.B","parameters":"x"}"#,
        r#"{"method":"a.B","unknown":{}}"#,
        r#"{"method":"a.B","X-Vendor":{}}"#,
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert!(
        CallMessage::parse(b"{\"method\":\"a.\xff\"}").is_err(),
        "not UTF-8"
    );
    let deep = format!(
        r#"{{"method":"a.B","parameters":{{"x":{}{}}}}}"#,
        "[".repeat(9999),
        "]".repeat(9999)
    );
    assert!(parse(&deep).is_err(), "endless nesting");
}

#[test]
fn absent_null_and_empty_are_the_same() {
    let plain = parse(r#"{"method":"a.B"}"#).unwrap();
    for same in [
        r#"{"method":"a.B","parameters":null}"#,
        r#"{"method":"a.B","parameters":{}}"#,
        r#"{"method":"a.B","more":false,"oneway":null,"upgrade":false}"#,
        r#" { "method" : "a.B" , "org.example.vendor" : { "x" : [1] } } "#,
    ] {
        assert_eq!(parse(same).unwrap(), plain, "{same}");
    }
    assert_eq!(plain.name(), Some(("a", "B")));
    assert_eq!(plain.mode, CallMode::Once);
}

#[test]
fn calls_and_replies_come_back() {
    for mode in [
        CallMode::Once,
        CallMode::Oneway,
        CallMode::More,
        CallMode::Upgrade,
    ] {
        for parameters in [json!({}), json!({"a": {"b": [1, null, "\u{0}"]}})] {
            let bytes = call_bytes("org.example.Do", &parameters, mode).unwrap();
            let (&last, message) = bytes.split_last().unwrap();
            assert_eq!((last, message.contains(&0)), (0, false));
            let call = CallMessage::parse(message).unwrap();
            assert_eq!(call.mode, mode);
            assert_eq!(Value::Object(call.parameters), parameters);
        }
    }
    assert_eq!(reply_bytes(&json!({}), false).unwrap(), b"{}\0");
    let bytes = reply_bytes(&json!({"n": 1}), true).unwrap();
    assert_eq!(bytes, b"{\"parameters\":{\"n\":1},\"continues\":true}\0");
    let bytes = error_bytes("org.example.Bad", &json!({})).unwrap();
    assert_eq!(bytes, b"{\"error\":\"org.example.Bad\"}\0");
}

#[test]
fn replies_are_read_strictly() {
    assert_eq!(ReplyMessage::parse(b"{}").unwrap(), ReplyMessage::default());
    assert_eq!(
        ReplyMessage::parse(br#"{"parameters":null,"continues":false,"error":null,"a.b":1}"#)
            .unwrap(),
        ReplyMessage::default()
    );
    for bad in [
        r#"{"surprise":1}"#,
        r#"{"continues":1}"#,
        r#"{"error":{}}"#,
        r#"{"error":"a.B","continues":true}"#,
        "[]",
    ] {
        assert!(ReplyMessage::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

/// All messages that a decoder finds when the stream arrives in the given pieces.
fn decode(stream: &[u8], pieces: &[usize], longest: usize) -> (Vec<Vec<u8>>, bool) {
    let mut decoder = MessageDecoder::new(longest);
    let mut messages = Vec::new();
    let mut rest = stream;
    let mut pieces = pieces.iter().copied().chain(std::iter::repeat(7));
    loop {
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
        if rest.is_empty() {
            return (messages, false);
        }
        let (piece, left) = rest.split_at(pieces.next().unwrap_or(1).min(rest.len()));
        decoder.push(piece);
        rest = left;
    }
}

#[test]
fn an_over_long_message_is_refused_before_it_is_complete() {
    assert_eq!(decode(b"1234\0", &[1], 4), (vec![b"1234".to_vec()], false));
    assert_eq!(decode(b"12345", &[1], 4), (vec![], true));
    assert_eq!(decode(b"12345\0", &[6], 4), (vec![], true));
    assert_eq!(decode(b"1\x00123\0", &[6], 4).0.len(), 2);
}

#[test]
fn an_idle_decoder_holds_no_memory() {
    let mut decoder = MessageDecoder::new(100);
    decoder.push(b"{}\0");
    assert!(decoder.next_message().unwrap().is_some());
    assert!(decoder.next_message().unwrap().is_none());
    assert_eq!(decoder.buffer.capacity(), 0);
}

proptest! {
    #[test]
    fn chunking_does_not_matter(
        stream in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..200),
        pieces in proptest::collection::vec(1usize..20, 0..50),
    ) {
        let whole = decode(&stream, &[stream.len().max(1)], 1000);
        prop_assert_eq!(decode(&stream, &pieces, 1000), whole.clone());
        let expected: Vec<Vec<u8>> = {
            let mut parts: Vec<_> = stream.split(|&b| b == 0).map(<[u8]>::to_vec).collect();
            parts.pop();
            parts
        };
        prop_assert_eq!(whole, (expected, false));
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = CallMessage::parse(&bytes);
        let _ = ReplyMessage::parse(&bytes);
    }

    #[test]
    fn almost_calls_do_not_panic(text in r#"\{("(method|more|oneway|parameters|a\.b)":("a\.B"|true|null|\{\}|1),?){0,5}\}"#) {
        let _ = parse(&text);
    }
}
