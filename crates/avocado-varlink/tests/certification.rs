//! The certification of the varlink project: their client against our server, ours against theirs,
//! and ours against ours.
#![allow(missing_docs)]

mod common;
#[path = "common/python.rs"]
mod python;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use avocado_varlink::client::{ClientError, VarlinkAddress, VarlinkClient};
use avocado_varlink::idl::Interface;
use avocado_varlink::server::{
    Listener, MethodCall, ReplyError, ServerOptions, VarlinkServer, VarlinkService,
};
use serde_json::{Map, Value, json};

const IDL: &str = include_str!("org.varlink.certification.varlink");
const NAME: &str = "org.varlink.certification";

/// The calls in their order: what a client sends, without its id, and what it gets.
fn steps() -> Vec<(&'static str, Value, Value)> {
    let pi = std::f64::consts::PI;
    let several = json!({"bool": false, "int": 2, "float": pi, "string": "a lot of string"});
    let map = json!({"foo": "Foo", "bar": "Bar"});
    let set = json!({"one": {}, "two": {}, "three": {}});
    let mytype = json!({
        "object": {"method": "org.varlink.certification.Test09", "parameters": {"map": map}},
        "enum": "two",
        "struct": {"first": 1, "second": "2"},
        "array": ["one", "two", "three"],
        "dictionary": map,
        "stringset": set,
        "nullable": null,
        "nullable_array_struct": null,
        "interface": {
            "foo": [null, {"foo": "foo", "bar": "bar"}, null, {"one": "foo", "two": "bar"}],
            "anon": {"foo": true, "bar": false}
        }
    });
    let replies: Vec<_> = (1..=10).map(|n| format!("Reply number {n}")).collect();
    vec![
        ("Test01", json!({}), json!({"bool": true})),
        ("Test02", json!({"bool": true}), json!({"int": 1})),
        ("Test03", json!({"int": 1}), json!({"float": 1.0})),
        ("Test04", json!({"float": 1.0}), json!({"string": "ping"})),
        ("Test05", json!({"string": "ping"}), several.clone()),
        ("Test06", several.clone(), json!({"struct": several})),
        ("Test07", json!({"struct": several}), json!({"map": map})),
        ("Test08", json!({"map": map}), json!({"set": set})),
        ("Test09", json!({"set": set}), json!({"mytype": mytype})),
        (
            "Test10",
            json!({"mytype": mytype}),
            json!({"string": "Reply number 10"}),
        ),
        ("Test11", json!({"last_more_replies": replies}), json!({})),
        ("End", json!({}), json!({"all_ok": true})),
    ]
}

/// Null and absent are the same, and so are 1 and 1.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let get = |map: &Map<String, Value>, key| map.get(key).cloned().unwrap_or_default();
            a.keys()
                .chain(b.keys())
                .all(|key| same(&get(a, key), &get(b, key)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

struct Certification {
    interfaces: [Interface; 1],
    /// Clients, and how many calls each has made.
    clients: Mutex<HashMap<String, usize>>,
}

impl Certification {
    fn step(&self, call: MethodCall) -> Result<(), ReplyError> {
        if call.method() == "Start" {
            let mut clients = self.clients.lock().unwrap();
            let id = format!("client-{}", clients.len());
            clients.insert(id.clone(), 0);
            return call.reply(&json!({"client_id": id}));
        }
        let mut got = call.raw_parameters().clone();
        let id = got.shift_remove("client_id").unwrap_or_default();
        let mut clients = self.clients.lock().unwrap();
        let Some(at) = id.as_str().and_then(|id| clients.get_mut(id)) else {
            return call.reply_error(&format!("{NAME}.ClientIdError"), &json!({}));
        };
        let (method, wants, reply) = steps().swap_remove(*at);
        *at += 1;
        let flags = match method {
            "Test10" => call.wants_more(),
            "Test11" => call.is_oneway(),
            _ => !call.wants_more() && !call.is_oneway(),
        };
        let got = Value::Object(got);
        if call.method() != method || !flags || !same(&got, &wants) {
            let got = json!({"method": call.full_name(), "parameters": got});
            let wants = json!({"method": method, "parameters": wants});
            let error = format!("{NAME}.CertificationError");
            return call.reply_error(&error, &json!({"wants": wants, "got": got}));
        }
        if method == "Test10" {
            for n in 1..10 {
                call.reply_continues(&json!({"string": format!("Reply number {n}")}))?;
            }
        }
        call.reply(&reply)
    }
}

impl VarlinkService for Certification {
    fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    fn call(&self, call: MethodCall) {
        let _ = self.step(call);
    }
}

struct Ours {
    address: VarlinkAddress,
    stop: UnixStream,
    thread: Option<std::thread::JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

fn ours() -> Ours {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let service = Certification {
        interfaces: [Interface::parse(IDL).unwrap()],
        clients: Mutex::default(),
    };
    let mut server =
        VarlinkServer::new(Arc::new(service), common::info(), ServerOptions::default()).unwrap();
    server
        .listen(Listener::bind(&path, 0o600).unwrap())
        .unwrap();
    let (stop, stopped) = UnixStream::pair().unwrap();
    server.stop_on(stopped.into()).unwrap();
    Ours {
        address: VarlinkAddress::of(path),
        stop,
        thread: Some(std::thread::spawn(move || {
            server.run().unwrap();
        })),
        _directory: directory,
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        use std::io::Write;
        let _ = self.stop.write_all(b"x");
        let _ = self.thread.take().unwrap().join();
    }
}

/// Our client's certification. Every value is checked as well as sent back.
fn certify(address: &VarlinkAddress) {
    let call = |method: &str, parameters: &Value| -> Result<Value, ClientError> {
        VarlinkClient::connect(address)?.call(&format!("{NAME}.{method}"), parameters)
    };
    let id = call("Start", &json!({})).unwrap()["client_id"].clone();
    let interface = Interface::parse(IDL).unwrap();
    for (method, mut parameters, expected) in steps() {
        parameters["client_id"] = id.clone();
        let full_name = format!("{NAME}.{method}");
        let mut client = VarlinkClient::connect(address).unwrap();
        let reply = match method {
            "Test10" => {
                let replies = client.call_more::<Value>(&full_name, &parameters).unwrap();
                let replies: Vec<_> = replies.map(Result::unwrap).collect();
                assert_eq!(replies.len(), 10);
                replies.into_iter().next_back().unwrap()
            }
            "Test11" => {
                client.call_oneway(&full_name, &parameters).unwrap();
                // On the same connection, so that it comes after.
                let parameters = json!({"client_id": id});
                let end: Value = client.call(&format!("{NAME}.End"), &parameters).unwrap();
                assert_eq!(end, json!({"all_ok": true}));
                return;
            }
            _ => client.call(&full_name, &parameters).unwrap(),
        };
        let object = reply.as_object().unwrap();
        let declared: Map<String, Value> = object
            .iter()
            // Their service adds one that is not declared, for clients to ignore.
            .filter(|(key, _)| *key != "client_id")
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(interface.check_reply(method, &declared), Ok(()), "{method}");
        assert!(
            same(&Value::Object(declared), &expected),
            "{method}: {reply}"
        );
    }
    panic!("Test11 ends it");
}

#[test]
fn our_client_and_our_server() {
    let server = ours();
    certify(&server.address);
    // It does check: what comes out of order is an error.
    let call = |method: &str, parameters: &Value| -> Result<Value, ClientError> {
        let mut client = VarlinkClient::connect(&server.address).unwrap();
        client.call(&format!("{NAME}.{method}"), parameters)
    };
    let id = call("Start", &json!({})).unwrap()["client_id"].clone();
    for (method, error) in [
        (json!({"client_id": "nobody"}), "ClientIdError"),
        (
            json!({"client_id": id, "bool": false}),
            "CertificationError",
        ),
    ] {
        let mut parameters = method;
        parameters["bool"] = json!(false);
        match call("Test02", &parameters) {
            Err(ClientError::Service { name, .. }) => assert_eq!(name, format!("{NAME}.{error}")),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn their_client_and_our_server() {
    let Some(python) = python::python("varlink certification client") else {
        return;
    };
    let server = ours();
    let address = format!("--varlink={}", server.address);
    let module = [
        "-m",
        "varlink.tests.test_certification",
        "--client",
        &address,
    ];
    let said = python::ok(&python, &module);
    assert!(said.contains("Reply number 10"), "{said}");
    assert!(said.contains("Certification passed"), "{said}");
}

struct Theirs(Child);

impl Drop for Theirs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn theirs(python: &Path, address: &VarlinkAddress) -> Theirs {
    let mut child = Command::new(python)
        .args(["-u", "-m", "varlink.tests.test_certification"])
        .arg(format!("--varlink={address}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert!(line.starts_with("Listening"), "{line}");
    Theirs(child)
}

#[test]
fn our_client_and_their_server() {
    let Some(python) = python::python("varlink certification server") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let address = VarlinkAddress::of(directory.path().join("sock"));
    let _server = theirs(&python, &address);
    certify(&address);
}
