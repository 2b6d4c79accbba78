//! The protocol as a client sees it, over real sockets.
#![allow(missing_docs)]

mod common;

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;

use avocado_varlink::client::ClientError;
use avocado_varlink::idl::Interface;
use avocado_varlink::server::ServerOptions;
use common::*;
use serde_json::{Value, json};

#[test]
fn a_half_closed_client_gets_its_answer_and_then_the_close() {
    let server = start(ServerOptions::default());
    assert_eq!(
        server.exchange(&echo("hello")),
        [json!({"parameters": {"text": "hello"}})]
    );
    assert_eq!(server.exchange(b""), [Value::Null; 0]);
    assert_eq!(
        server.exchange(b"{\"method\":"),
        [Value::Null; 0],
        "an incomplete call"
    );

    // Also when the answer comes long after the half-close.
    let mut slow = server.raw();
    slow.write_all(&message(
        &json!({"method": "org.example.test.Meet", "parameters": {"name": "a"}}),
    ))
    .unwrap();
    slow.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.arrived.recv().unwrap(), "a");
    server.leave.send(()).unwrap();
    assert_eq!(read_all(&mut slow), [json!({})]);
}

#[test]
fn replies_come_in_order_when_calls_are_pipelined() {
    let server = start(ServerOptions::default());
    let mut bytes = Vec::new();
    for n in 0..200 {
        bytes.extend(echo(&n.to_string()));
        if n % 3 == 0 {
            bytes.extend(message(
                &json!({"method": "org.varlink.service.GetInterfaceDescription",
                "parameters": {"interface": n.to_string()}}),
            ));
        }
    }
    let replies = server.exchange(&bytes);
    let mut replies = replies.iter();
    for n in 0..200 {
        assert_eq!(replies.next().unwrap()["parameters"]["text"], n.to_string());
        if n % 3 == 0 {
            assert_eq!(
                replies.next().unwrap()["parameters"]["interface"],
                n.to_string()
            );
        }
    }
    assert_eq!(replies.next(), None);
}

#[test]
fn a_call_may_arrive_in_single_bytes() {
    let server = start(ServerOptions::default());
    let mut stream = server.raw();
    for byte in echo("bit by bit") {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(read_one(&mut stream)["parameters"]["text"], "bit by bit");
}

#[test]
fn oneway_is_never_answered() {
    let server = start(ServerOptions::default());
    let mut bytes = Vec::new();
    for method in ["Echo", "Nonsense", "Leave", "Needy", "Unwritten", "Count"] {
        let method = format!("org.example.test.{method}");
        bytes.extend(message(
            &json!({"method": method, "oneway": true, "parameters": {"to": 3}}),
        ));
    }
    bytes.extend(message(
        &json!({"method": "org.varlink.service.GetInfo", "oneway": true}),
    ));
    bytes.extend(message(&json!({"method": "not.There", "oneway": true})));
    bytes.extend(echo("only this"));
    assert_eq!(
        server.exchange(&bytes),
        [json!({"parameters": {"text": "only this"}})]
    );
}

#[test]
fn a_oneway_call_is_run_although_the_client_is_gone() {
    let server = start(ServerOptions::default());
    let mut client = server.client();
    client
        .call_oneway("org.example.test.Meet", &json!({"name": "left"}))
        .unwrap();
    drop(client);
    assert_eq!(server.arrived.recv().unwrap(), "left");
    server.leave.send(()).unwrap();
}

#[test]
fn more_gets_a_stream_and_otherwise_there_is_one_reply() {
    let server = start(ServerOptions::default());
    let replies = server
        .client()
        .call_more::<Value>("org.example.test.Count", &json!({"to": 3}));
    let numbers: Vec<_> = replies
        .unwrap()
        .map(|r| r.unwrap()["n"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3]);

    let count = json!({"method": "org.example.test.Count", "parameters": {"to": 3}});
    assert_eq!(
        server.exchange(&message(&count)),
        [json!({"parameters": {"n": 3}})]
    );

    // A method that does not stream answers once, without `continues`.
    let mut call = json!({"method": "org.example.test.Echo", "more": true});
    call["parameters"] = json!({"text": "x"});
    assert_eq!(
        server.exchange(&message(&call)),
        [json!({"parameters": {"text": "x"}})]
    );
}

#[test]
fn what_has_no_answer_closes_the_connection() {
    let server = start(ServerOptions::default());
    for bad in [
        r#"{"method":"org.example.test.Who","more":true,"oneway":true}"#,
        r#"{"method":"org.example.test.Who","more":true,"upgrade":true}"#,
        r#"{"method":"org.example.test.Who","oneway":true,"upgrade":true}"#,
        r#"{"method":"org.example.test.Who","more":1}"#,
        r#"{"method":"org.example.test.Who","header":1}"#,
        r#"{"parameters":{}}"#,
        r#"["method"]"#,
        "hello",
        "",
        r#"{"method":"org.example.test.Leave"}"#,
        r#"{"method":"org.example.test.Panic"}"#,
    ] {
        let mut stream = server.raw();
        // What came before is answered; what comes after is not.
        let mut bytes = echo("before");
        bytes.extend(bad.as_bytes());
        bytes.push(0);
        bytes.extend(echo("after"));
        stream.write_all(&bytes).unwrap();
        let replies = read_all(&mut stream);
        assert_eq!(
            replies,
            [json!({"parameters": {"text": "before"}})],
            "{bad}"
        );
    }
    let mut stream = server.raw();
    let long = vec![b' '; ServerOptions::default().max_message + 1];
    stream.write_all(&long).unwrap();
    assert_eq!(
        read_all(&mut stream),
        [Value::Null; 0],
        "a message without end"
    );
}

#[test]
fn errors_name_what_is_wrong() {
    let server = start(ServerOptions::default());
    let none = json!({});
    let own = "org.example.test.Echo";
    for (method, parameters, error, told) in [
        (
            "org.example.other.Do",
            none.clone(),
            "InterfaceNotFound",
            json!({"interface": "org.example.other"}),
        ),
        (
            "Echo",
            none.clone(),
            "InterfaceNotFound",
            json!({"interface": "Echo"}),
        ),
        (
            "org.example.test.",
            none.clone(),
            "MethodNotFound",
            json!({"method": "org.example.test."}),
        ),
        (
            "org.example.test.Nope",
            none.clone(),
            "MethodNotFound",
            json!({"method": "org.example.test.Nope"}),
        ),
        (
            "org.example.test.Unwritten",
            none.clone(),
            "MethodNotImplemented",
            json!({"method": "org.example.test.Unwritten"}),
        ),
        (
            "org.example.test.Needy",
            none.clone(),
            "ExpectedMore",
            Value::Null,
        ),
        (
            own,
            none.clone(),
            "InvalidParameter",
            json!({"parameter": "text"}),
        ),
        (
            own,
            json!({"text": 1}),
            "InvalidParameter",
            json!({"parameter": "text"}),
        ),
        (
            own,
            json!({"text": "", "extra": null}),
            "InvalidParameter",
            json!({"parameter": "extra"}),
        ),
        (
            "org.varlink.service.GetInfo",
            json!({"x": 1}),
            "InvalidParameter",
            json!({"parameter": "x"}),
        ),
        (
            "org.varlink.service.GetInterfaceDescription",
            none.clone(),
            "InvalidParameter",
            json!({"parameter": "interface"}),
        ),
        (
            "org.varlink.service.GetInterfaceDescription",
            json!({"interface": "a.b"}),
            "InterfaceNotFound",
            json!({"interface": "a.b"}),
        ),
        (
            "org.varlink.service.Nope",
            none.clone(),
            "MethodNotFound",
            json!({"method": "org.varlink.service.Nope"}),
        ),
    ] {
        let replies = server.exchange(&message(
            &json!({"method": method, "parameters": parameters}),
        ));
        let error = format!("org.varlink.service.{error}");
        assert_eq!(replies.len(), 1);
        assert_eq!(replies[0]["error"], error, "{method}");
        assert_eq!(
            replies[0].get("parameters").cloned().unwrap_or_default(),
            told,
            "{method}"
        );
    }
    let upgrade = json!({"method": "org.example.test.Who", "upgrade": true});
    let replies = server.exchange(&message(&upgrade));
    assert_eq!(
        replies[0]["error"],
        "org.varlink.service.MethodNotImplemented"
    );
    match server.client().call::<Value>(own, &none) {
        Err(ClientError::Service { name, .. }) => {
            assert_eq!(name, "org.varlink.service.InvalidParameter");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_service_describes_itself() {
    let server = start(ServerOptions::default());
    let mut client = server.client();
    let info: Value = client
        .call("org.varlink.service.GetInfo", &json!({}))
        .unwrap();
    assert_eq!(
        info,
        json!({"vendor": "Example", "product": "test", "version": "1", "url": "https://example.org",
            "interfaces": ["org.varlink.service", "org.example.test"]})
    );
    for interface in ["org.varlink.service", "org.example.test"] {
        let method = "org.varlink.service.GetInterfaceDescription";
        let reply: Value = client
            .call(method, &json!({"interface": interface}))
            .unwrap();
        let text = reply["description"].as_str().unwrap();
        assert_eq!(Interface::parse(text).unwrap().name(), interface);
    }
}

#[test]
fn the_peer_is_known() {
    let server = start(ServerOptions::default());
    let who: Value = server
        .client()
        .call("org.example.test.Who", &json!({}))
        .unwrap();
    assert_eq!(who["pid"], std::process::id());
    assert_eq!(who["uid"], std::fs::metadata("/proc/self").unwrap().uid());
}
