//! UAPI.20, must by must: what a client sends, byte by byte, and everything that comes back until
//! the server closes the connection.
#![allow(missing_docs)]

mod common;

use std::io::Write;
use std::net::Shutdown;

use avocado_varlink::server::ServerOptions;
use common::*;
use serde_json::{Value, json};

/// What comes back.
enum Answer {
    /// These messages.
    Says(&'static [&'static str]),
    /// This error of org.varlink.service, with one parameter.
    Refuses(&'static str, &'static str, &'static str),
    /// Nothing: the connection is closed, and what follows on it is not read.
    Closes,
}
use Answer::{Closes, Refuses, Says};

const WORLD: &[&str] = &[r#"{"parameters":{"text":"world"}}"#];
const NOTHING: &[&str] = &[];

/// The rule, one case of it, and the answer. `ECHO` stands for `org.example.test.Echo`, `T` for
/// `org.example.test`, `S` for `org.varlink.service`, and `¶` for the NUL.
#[rustfmt::skip]
const CASES: &[(&str, &str, Answer)] = &[
    // Framing.
    ("one message", r#"{"method":"ECHO","parameters":{"text":"world"}}¶"#, Says(WORLD)),
    ("white space around it", " \n\t{\r\n\"method\" : \"ECHO\" ,\"parameters\":{ \"text\" :\"world\"} } \n¶", Says(WORLD)),
    ("two messages in one write", r#"{"method":"T.Count","parameters":{"to":1}}¶{"method":"ECHO","parameters":{"text":"world"}}¶"#,
        Says(&[r#"{"parameters":{"n":1}}"#, r#"{"parameters":{"text":"world"}}"#])),
    ("a message without its NUL", r#"{"method":"ECHO","parameters":{"text":"world"}}"#, Says(NOTHING)),
    ("half a message", r#"{"method":"ECHO","para"#, Says(NOTHING)),
    ("nothing at all", "", Says(NOTHING)),
    ("an empty message", "¶", Closes),
    ("a newline for the NUL", "{\"method\":\"ECHO\",\"parameters\":{\"text\":\"world\"}}\n{}¶", Closes),
    ("an escaped NUL in a string", r#"{"method":"ECHO","parameters":{"text":"a\u0000b"}}¶"#, Says(&[r#"{"parameters":{"text":"a\u0000b"}}"#])),
    ("text beyond ASCII", r#"{"method":"ECHO","parameters":{"text":"žlutý 🥑 \ud83e\udd51"}}¶"#, Says(&[r#"{"parameters":{"text":"žlutý 🥑 🥑"}}"#])),
    ("half a surrogate pair", r#"{"method":"ECHO","parameters":{"text":"\ud83e"}}¶"#, Closes),

    // Malformed messages.
    ("not JSON", "hello¶", Closes),
    ("HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n¶", Closes),
    ("JSON with a comment", r#"{"method":"ECHO"/* */}¶"#, Closes),
    ("JSON with a trailing comma", r#"{"method":"ECHO",}¶"#, Closes),
    ("single quotes", "{'method':'ECHO'}¶", Closes),
    ("an array", r#"[{"method":"ECHO"}]¶"#, Closes),
    ("a string", r#""ECHO"¶"#, Closes),
    ("a number", "1¶", Closes),
    ("null", "null¶", Closes),
    ("more after the object", r#"{"method":"T.Panic"}{}¶"#, Closes),
    ("no method", r#"{"parameters":{"text":"world"}}¶"#, Closes),
    ("an empty object", "{}¶", Closes),
    ("the method is null", r#"{"method":null}¶"#, Closes),
    ("the method is a number", r#"{"method":5}¶"#, Closes),
    ("the method twice", r#"{"method":"ECHO","method":"ECHO","parameters":{"text":"world"}}¶"#, Closes),
    ("the parameters are an array", r#"{"method":"ECHO","parameters":["world"]}¶"#, Closes),
    ("the parameters are a string", r#"{"method":"ECHO","parameters":"world"}¶"#, Closes),
    ("the parameters are false", r#"{"method":"ECHO","parameters":false}¶"#, Closes),

    // The header.
    ("an unknown member", r#"{"method":"ECHO","parameters":{"text":"world"},"timeout":1}¶"#, Closes),
    ("an unknown member that is null", r#"{"method":"ECHO","parameters":{"text":"world"},"timeout":null}¶"#, Closes),
    ("an X- member", r#"{"method":"ECHO","parameters":{"text":"world"},"X-Trace":{}}¶"#, Closes),
    ("a member of replies", r#"{"method":"ECHO","parameters":{"text":"world"},"continues":false}¶"#, Closes),
    ("another case", r#"{"Method":"ECHO","parameters":{"text":"world"}}¶"#, Closes),
    ("a vendor's member", r#"{"org.example":{"id":1},"method":"ECHO","parameters":{"text":"world"}}¶"#, Says(WORLD)),
    ("two vendors' members", r#"{"method":"ECHO","a.b":{},"parameters":{"text":"world"},"c.d":{"e":[null]}}¶"#, Says(WORLD)),
    ("members in another order", r#"{"parameters":{"text":"world"},"more":false,"method":"ECHO"}¶"#, Says(WORLD)),

    // Parameters.
    ("none, absent", r#"{"method":"S.GetInfo"}¶"#, Says(&[INFO])),
    ("none, null", r#"{"method":"S.GetInfo","parameters":null}¶"#, Says(&[INFO])),
    ("none, empty", r#"{"method":"S.GetInfo","parameters":{}}¶"#, Says(&[INFO])),
    ("a nullable one absent", r#"{"method":"ECHO","parameters":{"text":"world"}}¶"#, Says(WORLD)),
    ("a nullable one null", r#"{"method":"ECHO","parameters":{"text":"world","note":null}}¶"#, Says(WORLD)),
    ("a nullable one set", r#"{"method":"ECHO","parameters":{"text":"world","note":"x"}}¶"#, Says(WORLD)),
    ("a nullable one of another type", r#"{"method":"ECHO","parameters":{"text":"world","note":[]}}¶"#, Refuses("InvalidParameter", "parameter", "note")),
    ("one is missing", r#"{"method":"ECHO","parameters":{}}¶"#, Refuses("InvalidParameter", "parameter", "text")),
    ("all are missing", r#"{"method":"ECHO"}¶"#, Refuses("InvalidParameter", "parameter", "text")),
    ("one is null", r#"{"method":"ECHO","parameters":{"text":null}}¶"#, Refuses("InvalidParameter", "parameter", "text")),
    ("one of another type", r#"{"method":"ECHO","parameters":{"text":1}}¶"#, Refuses("InvalidParameter", "parameter", "text")),
    ("one unknown", r#"{"method":"ECHO","parameters":{"text":"world","txt":"x"}}¶"#, Refuses("InvalidParameter", "parameter", "txt")),
    ("one unknown and null", r#"{"method":"ECHO","parameters":{"text":"world","txt":null}}¶"#, Refuses("InvalidParameter", "parameter", "txt")),
    ("one where there is none", r#"{"method":"S.GetInfo","parameters":{"interface":"T"}}¶"#, Refuses("InvalidParameter", "parameter", "interface")),
    ("a fraction for an integer", r#"{"method":"T.Count","parameters":{"to":1.5}}¶"#, Refuses("InvalidParameter", "parameter", "to")),
    ("a fraction of zero for an integer", r#"{"method":"T.Count","parameters":{"to":1.0}}¶"#, Refuses("InvalidParameter", "parameter", "to")),
    ("an exponent for an integer", r#"{"method":"T.Count","parameters":{"to":1e0}}¶"#, Refuses("InvalidParameter", "parameter", "to")),
    ("an integer beyond 64 bits", r#"{"method":"T.Count","parameters":{"to":99999999999999999999}}¶"#, Refuses("InvalidParameter", "parameter", "to")),
    ("the least integer", r#"{"method":"T.Count","parameters":{"to":-9223372036854775808}}¶"#, Says(&[r#"{"parameters":{"n":-9223372036854775808}}"#])),

    // Names.
    ("an unknown interface", r#"{"method":"org.example.none.Echo"}¶"#, Refuses("InterfaceNotFound", "interface", "org.example.none")),
    ("an interface in another case", r#"{"method":"org.example.Test.Echo"}¶"#, Refuses("InterfaceNotFound", "interface", "org.example.Test")),
    ("no interface", r#"{"method":"Echo"}¶"#, Refuses("InterfaceNotFound", "interface", "Echo")),
    ("an empty method", r#"{"method":""}¶"#, Refuses("InterfaceNotFound", "interface", "")),
    ("an unknown method", r#"{"method":"T.Nope"}¶"#, Refuses("MethodNotFound", "method", "org.example.test.Nope")),
    ("a method in another case", r#"{"method":"T.echo"}¶"#, Refuses("MethodNotFound", "method", "org.example.test.echo")),
    ("only the interface", r#"{"method":"T."}¶"#, Refuses("MethodNotFound", "method", "org.example.test.")),
    ("a method that is not written yet", r#"{"method":"T.Unwritten"}¶"#, Refuses("MethodNotImplemented", "method", "org.example.test.Unwritten")),
    ("the description of an unknown interface", r#"{"method":"S.GetInterfaceDescription","parameters":{"interface":"a.b"}}¶"#, Refuses("InterfaceNotFound", "interface", "a.b")),
    ("the connection lives on after an error", r#"{"method":"T.Nope"}¶{"method":"ECHO","parameters":{"text":"world"}}¶"#,
        Says(&[r#"{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"org.example.test.Nope"}}"#, r#"{"parameters":{"text":"world"}}"#])),

    // oneway.
    ("oneway, a success", r#"{"method":"ECHO","oneway":true,"parameters":{"text":"x"}}¶"#, Says(NOTHING)),
    ("oneway, an unknown method", r#"{"method":"T.Nope","oneway":true}¶"#, Says(NOTHING)),
    ("oneway, an unknown interface", r#"{"method":"a.b.C","oneway":true}¶"#, Says(NOTHING)),
    ("oneway, a wrong parameter", r#"{"method":"ECHO","oneway":true,"parameters":{"txt":"x"}}¶"#, Says(NOTHING)),
    ("oneway, a method that streams", r#"{"method":"T.Count","oneway":true,"parameters":{"to":3}}¶"#, Says(NOTHING)),
    ("oneway, and the next answer is that of the next call", r#"{"method":"ECHO","oneway":true,"parameters":{"text":"x"}}¶{"method":"ECHO","parameters":{"text":"world"}}¶"#, Says(WORLD)),
    ("oneway is false", r#"{"method":"ECHO","oneway":false,"parameters":{"text":"world"}}¶"#, Says(WORLD)),
    ("oneway is null", r#"{"method":"ECHO","oneway":null,"parameters":{"text":"world"}}¶"#, Says(WORLD)),
    ("oneway is a number", r#"{"method":"ECHO","oneway":1,"parameters":{"text":"world"}}¶"#, Closes),
    ("oneway is a string", r#"{"method":"ECHO","oneway":"true","parameters":{"text":"world"}}¶"#, Closes),

    // more.
    ("more, a method that streams", r#"{"method":"T.Count","more":true,"parameters":{"to":3}}¶"#,
        Says(&[r#"{"parameters":{"n":1},"continues":true}"#, r#"{"parameters":{"n":2},"continues":true}"#, r#"{"parameters":{"n":3}}"#])),
    ("more, and no reply before the last", r#"{"method":"T.Count","more":true,"parameters":{"to":1}}¶"#, Says(&[r#"{"parameters":{"n":1}}"#])),
    ("more, a method that does not stream", r#"{"method":"ECHO","more":true,"parameters":{"text":"world"}}¶"#, Says(WORLD)),
    ("more, an error", r#"{"method":"T.Nope","more":true}¶"#, Refuses("MethodNotFound", "method", "org.example.test.Nope")),
    ("no more, a method that streams", r#"{"method":"T.Count","parameters":{"to":3}}¶"#, Says(&[r#"{"parameters":{"n":3}}"#])),
    ("more is false", r#"{"method":"T.Count","more":false,"parameters":{"to":3}}¶"#, Says(&[r#"{"parameters":{"n":3}}"#])),
    ("no more, a method that needs it", r#"{"method":"T.Needy"}¶"#, Says(&[r#"{"error":"org.varlink.service.ExpectedMore"}"#])),
    ("more, and a call behind it", r#"{"method":"T.Count","more":true,"parameters":{"to":2}}¶{"method":"ECHO","parameters":{"text":"world"}}¶"#,
        Says(&[r#"{"parameters":{"n":1},"continues":true}"#, r#"{"parameters":{"n":2}}"#, r#"{"parameters":{"text":"world"}}"#])),
    ("more is an object", r#"{"method":"ECHO","more":{},"parameters":{"text":"world"}}¶"#, Closes),

    // upgrade, and two flags.
    ("upgrade, which no method here knows", r#"{"method":"ECHO","upgrade":true,"parameters":{"text":"x"}}¶"#, Refuses("MethodNotImplemented", "method", "org.example.test.Echo")),
    ("a refused upgrade leaves the connection as it is", r#"{"method":"T.Nope","upgrade":true}¶{"method":"ECHO","parameters":{"text":"world"}}¶"#,
        Says(&[r#"{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"org.example.test.Nope"}}"#, r#"{"parameters":{"text":"world"}}"#])),
    ("upgrade is false", r#"{"method":"ECHO","upgrade":false,"parameters":{"text":"world"}}¶"#, Says(WORLD)),
    ("upgrade is an array", r#"{"method":"ECHO","upgrade":[],"parameters":{"text":"world"}}¶"#, Closes),
    ("oneway and more", r#"{"method":"ECHO","oneway":true,"more":true,"parameters":{"text":"world"}}¶"#, Closes),
    ("oneway and upgrade", r#"{"method":"ECHO","oneway":true,"upgrade":true,"parameters":{"text":"world"}}¶"#, Closes),
    ("more and upgrade", r#"{"method":"ECHO","more":true,"upgrade":true,"parameters":{"text":"world"}}¶"#, Closes),
    ("all three", r#"{"method":"ECHO","oneway":true,"more":true,"upgrade":true,"parameters":{"text":"world"}}¶"#, Closes),
    ("more, and the others false", r#"{"method":"T.Count","oneway":false,"more":true,"upgrade":false,"parameters":{"to":1}}¶"#, Says(&[r#"{"parameters":{"n":1}}"#])),
];

const INFO: &str = r#"{"parameters":{"vendor":"Example","product":"test","version":"1","url":"https://example.org","interfaces":["org.varlink.service","org.example.test"]}}"#;

fn bytes(text: &str) -> Vec<u8> {
    let text = text
        .replace("ECHO", "org.example.test.Echo")
        .replace("\"T.", "\"org.example.test.")
        .replace("\"T\"", "\"org.example.test\"")
        .replace("\"S.", "\"org.varlink.service.")
        .replace('¶', "\0");
    text.into_bytes()
}

/// What follows a message that closes the connection; an answer to it would be noticed.
const AFTER: &str = r#"{"method":"ECHO","parameters":{"text":"after"}}¶"#;

#[test]
fn every_must() {
    let server = start(ServerOptions::default());
    for (rule, sent, answer) in CASES {
        let (more, expected): (&str, Vec<Value>) = match answer {
            Says(messages) => {
                let parse = |m: &&str| serde_json::from_str(m).unwrap();
                ("", messages.iter().map(parse).collect())
            }
            Refuses(error, name, value) => {
                let error = format!("org.varlink.service.{error}");
                let reply = json!({"error": error, "parameters": {*name: value}});
                ("", vec![reply])
            }
            Closes => (AFTER, Vec::new()),
        };
        let mut stream = server.raw();
        stream.write_all(&bytes(&format!("{sent}{more}"))).unwrap();
        if !matches!(answer, Closes) {
            // Otherwise the server closes by itself.
            stream.shutdown(Shutdown::Write).unwrap();
        }
        assert_eq!(read_all(&mut stream), expected, "{rule}: {sent}");
    }
    assert!(CASES.len() >= 60);
}

/// What no text can say.
#[test]
fn messages_that_are_no_text() {
    let server = start(ServerOptions::default());
    for bad in [
        b"{\"method\":\"org.example.test.Echo\xff\"}\0".to_vec(),
        b"\xef\xbb\xbf{\"method\":\"org.example.test.Needy\"}\0".to_vec(),
        b"\x80\0".to_vec(),
        // Nested without end, and longer than any call.
        [
            b"{\"method\":\"a.B\",\"parameters\":{\"x\":".as_slice(),
            &[b'['; 5000],
        ]
        .concat(),
        vec![b'{'; ServerOptions::default().max_message + 1],
    ] {
        let mut stream = server.raw();
        let mut sent = bad;
        sent.push(0);
        sent.extend(bytes(AFTER));
        // The server may close before everything is sent.
        let _ = stream.write_all(&sent);
        assert_eq!(read_all(&mut stream), [Value::Null; 0]);
    }
}
