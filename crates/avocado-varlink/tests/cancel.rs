//! Work that no client waits for any more is stopped.
#![allow(missing_docs)]

mod common;

use std::io::Write;
use std::net::Shutdown;

use avocado_varlink::server::{ServerEnd, ServerOptions};
use common::*;
use serde_json::{Value, json};

fn watch(name: &str) -> Value {
    json!({"method": "org.example.test.Watch", "parameters": {"name": name}})
}

/// The server has seen everything that was sent to it before this returns.
fn round_trip(server: &Running) {
    let mut stream = server.raw();
    stream.write_all(&echo("x")).unwrap();
    read_one(&mut stream);
}

#[test]
fn a_client_that_leaves_stops_its_call() {
    let server = start(ServerOptions::default());
    for more in [false, true] {
        let mut call = watch("left");
        call["more"] = json!(more);
        let mut stream = server.raw();
        stream.write_all(&message(&call)).unwrap();
        assert_eq!(server.arrived.recv().unwrap(), "left");
        drop(stream);
        assert_eq!(server.arrived.recv().unwrap(), "left true");
    }
}

#[test]
fn a_client_that_only_sends_no_more_is_waited_for() {
    let mut server = start(ServerOptions::default());
    let mut half = server.raw();
    half.write_all(&message(&watch("half"))).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let mut oneway = watch("oneway");
    oneway["oneway"] = json!(true);
    server.raw().write_all(&message(&oneway)).unwrap();
    let mut begun = [(); 2].map(|()| server.arrived.recv().unwrap());
    begun.sort();
    assert_eq!(begun, ["half", "oneway"]);
    round_trip(&server);
    assert!(server.arrived.try_recv().is_err(), "both still run");

    // Until the server is to stop: then neither has a reason to go on.
    assert_eq!(server.end(), ServerEnd::Stopped);
    let mut ended = [(); 2].map(|()| server.arrived.recv().unwrap());
    ended.sort();
    assert_eq!(ended, ["half true", "oneway true"]);
    assert_eq!(read_all(&mut half), [json!({})], "the answer still comes");
}

#[test]
fn what_waits_behind_a_call_goes_with_the_client() {
    let server = start(ServerOptions::default());
    let mut stream = server.raw();
    stream.write_all(&message(&watch("first"))).unwrap();
    // Pipelined: it waits for the first one, and goes with the client.
    stream.write_all(&message(&watch("second"))).unwrap();
    assert_eq!(server.arrived.recv().unwrap(), "first");
    drop(stream);
    assert_eq!(server.arrived.recv().unwrap(), "first true");
    round_trip(&server);
    assert!(server.arrived.try_recv().is_err(), "the second is not run");
}
