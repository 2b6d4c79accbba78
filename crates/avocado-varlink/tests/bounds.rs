//! What a server allows, and how it ends.
#![allow(missing_docs)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use avocado_varlink::client::{VarlinkAddress, VarlinkClient};
use avocado_varlink::idl::Interface;
use avocado_varlink::server::{ServerEnd, ServerOptions, VarlinkServer};
use common::*;
use serde_json::{Value, json};

#[test]
fn a_client_that_does_not_read_costs_little_and_blocks_nobody() {
    let options = ServerOptions {
        max_running: 1,
        ..ServerOptions::default()
    };
    let server = start(options);
    let mut deaf: Vec<_> = (0..4).map(|_| server.raw()).collect();
    for stream in &mut deaf {
        let flood = message(&json!({"method": "org.example.test.Flood", "more": true}));
        stream.write_all(&flood).unwrap();
        stream.write_all(&echo("still here")).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    }
    // The only thread is free again as soon as each flood met its bound.
    let reply: Value = server
        .client()
        .call("org.example.test.Echo", &json!({"text": "x"}))
        .unwrap();
    assert_eq!(reply["text"], "x");
    for stream in &mut deaf {
        // Everything that was taken arrives, and then the answer to the next call.
        let replies = read_all(stream);
        let [taken @ .., last, next] = replies.as_slice() else {
            panic!("{}", replies.len())
        };
        assert_eq!(last["parameters"]["sent"], taken.len());
        assert!(
            taken
                .iter()
                .enumerate()
                .all(|(i, r)| r["parameters"]["sent"] == i)
        );
        assert_eq!(next["parameters"]["text"], "still here");
        assert!(taken.len() < 2000, "bounded: {}", taken.len());
    }
}

#[test]
fn exclusive_calls_take_turns_and_the_others_do_not_wait() {
    let options = ServerOptions {
        max_running: 2,
        ..ServerOptions::default()
    };
    let server = start(options);
    let call = |name: &str| {
        let mut stream = server.raw();
        let method = "org.example.test.Serial";
        stream
            .write_all(&message(
                &json!({"method": method, "parameters": {"name": name}}),
            ))
            .unwrap();
        stream
    };
    let mut first = call("first");
    assert_eq!(server.arrived.recv().unwrap(), "first");
    let mut others: Vec<_> = (0..10).map(|n| call(&n.to_string())).collect();
    // All ten wait, and yet there is a thread for this.
    let _: Value = server
        .client()
        .call("org.example.test.Echo", &json!({"text": "x"}))
        .unwrap();
    // One that gives up while it waits is not run.
    drop(others.remove(4));
    let _: Value = server
        .client()
        .call("org.example.test.Echo", &json!({"text": "x"}))
        .unwrap();
    for _ in 0..10 {
        server.leave.send(()).unwrap();
    }
    assert_eq!(read_one(&mut first), json!({}));
    for stream in &mut others {
        assert_eq!(read_one(stream), json!({}));
    }
    let mut ran: Vec<String> = server.arrived.try_iter().collect();
    ran.sort();
    assert_eq!(ran, ["0", "1", "2", "3", "5", "6", "7", "8", "9"]);
}

#[test]
fn surplus_connections_are_closed() {
    let options = ServerOptions {
        max_connections: 2,
        ..ServerOptions::default()
    };
    let server = start(options);
    let mut kept: Vec<_> = (0..2).map(|_| server.raw()).collect();
    for stream in &mut kept {
        stream.write_all(&echo("x")).unwrap();
        read_one(stream);
    }
    assert_eq!(read_all(&mut server.raw()), [Value::Null; 0]);
    drop(kept.pop());
    // Room again as soon as the server has noticed.
    loop {
        let mut stream = server.raw();
        if stream.write_all(&echo("y")).is_ok()
            && !matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_))
        {
            break;
        }
    }
}

/// A connection of a user who is not root; none where this process may not be another one.
fn as_a_user(uid: u32, path: &std::path::Path) -> Option<UnixStream> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let connect = || {
        let uid = rustix::process::Uid::from_raw(uid);
        // Of this thread alone, which does nothing but connect.
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        UnixStream::connect(path).unwrap()
    };
    std::thread::scope(|scope| Some(scope.spawn(connect).join().unwrap()))
}

fn is_served(stream: &mut UnixStream) -> bool {
    stream.write_all(&echo("x")).is_ok() && !matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_))
}

#[test]
fn a_user_has_a_share_and_root_has_room() {
    let options = ServerOptions {
        max_connections: 128,
        max_connections_per_user: 100,
        ..ServerOptions::default()
    };
    let server = start(options);
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&server.path, everyone).unwrap();
    let directory = server.path.parent().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory, open).unwrap();
    let connect = |uid| as_a_user(uid, &server.path);
    let Some(first) = connect(1001) else {
        return avocado_test_support::skip("a_user_has_a_share_and_root_has_room", "it needs root");
    };
    let mut kept = vec![first];
    while kept.len() < 100 {
        kept.push(connect(1001).unwrap());
        assert!(is_served(kept.last_mut().unwrap()));
    }
    assert!(!is_served(&mut connect(1001).unwrap()));
    // Another user is not touched by that, up to what is root's.
    while kept.len() < 126 {
        kept.push(connect(1002).unwrap());
        assert!(is_served(kept.last_mut().unwrap()));
    }
    assert!(!is_served(&mut connect(1002).unwrap()));
    assert!(is_served(&mut server.raw()));
}

#[test]
fn what_waits_for_one_user_has_a_bound() {
    let options = ServerOptions {
        max_buffered_per_user: 1 << 20,
        ..ServerOptions::default()
    };
    let server = start(options);
    // Each has a call that never ends, within what one connection may have.
    let part = vec![b'x'; 60_000];
    let mut all: Vec<_> = (0..40).map(|_| server.raw()).collect();
    for stream in &mut all {
        // It may be closed in the midst of that.
        let _ = stream.write_all(&part);
        stream.set_nonblocking(true).unwrap();
    }
    let kept = || {
        let is_open = |stream: &&UnixStream| {
            let mut stream: &UnixStream = stream;
            matches!(stream.read(&mut [0; 1]), Err(e) if e.kind() == ErrorKind::WouldBlock)
        };
        all.iter().filter(is_open).count()
    };
    while kept() > 17 {
        std::thread::yield_now();
    }
    assert!(kept() > 4, "{}", kept());
    // With those gone there is room again.
    drop(all);
    assert!(is_served(&mut server.raw()));
}

#[test]
fn idle_servers_end_and_busy_ones_do_not() {
    let options = ServerOptions {
        exit_on_idle: Some(Duration::from_millis(20)),
        ..ServerOptions::default()
    };
    let mut server = start(options);
    // The server may be gone before we connect; but once it has accepted, it stays as long as we do.
    if let Ok(mut client) = VarlinkClient::connect(&VarlinkAddress::of(&server.path)) {
        let mut call = || client.call::<Value>("org.example.test.Echo", &json!({"text": "x"}));
        if call().is_ok() {
            let since = std::time::Instant::now();
            while since.elapsed() < Duration::from_millis(60) {
                call().unwrap();
            }
        }
    }
    assert_eq!(
        server.thread.take().unwrap().join().unwrap(),
        ServerEnd::Idle
    );
    assert!(!server.path.exists(), "its socket is removed");
}

#[test]
fn stopping_lets_running_calls_finish() {
    let mut server = start(ServerOptions::default());
    let mut idle = server.raw();
    let mut stream = server.raw();
    let meet = json!({"method": "org.example.test.Meet", "parameters": {"name": "last"}});
    stream.write_all(&message(&meet)).unwrap();
    assert_eq!(server.arrived.recv().unwrap(), "last");
    server.stop.write_all(b"x").unwrap();
    assert_eq!(
        read_all(&mut idle),
        [Value::Null; 0],
        "idle connections are closed"
    );
    assert!(UnixStream::connect(&server.path).is_err(), "no new ones");
    server.leave.send(()).unwrap();
    assert_eq!(read_all(&mut stream), [json!({})]);
    assert_eq!(
        server.thread.take().unwrap().join().unwrap(),
        ServerEnd::Stopped
    );
}

#[test]
fn an_adopted_connection_is_served_until_it_ends() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (arrived, _keep) = channel();
    let (_leave, leave) = channel();
    let service = Test {
        interfaces: [Interface::parse(IDL).unwrap()],
        arrived: Mutex::new(arrived),
        leave: Mutex::new(leave),
    };
    let mut server =
        VarlinkServer::new(Arc::new(service), info(), ServerOptions::default()).unwrap();
    server.adopt(theirs.into()).unwrap();
    let thread = std::thread::spawn(move || server.run().unwrap());
    let mut stream = ours;
    stream.write_all(&echo("x")).unwrap();
    assert_eq!(read_one(&mut stream)["parameters"]["text"], "x");
    drop(stream);
    assert_eq!(thread.join().unwrap(), ServerEnd::NoClients);
}

#[test]
fn the_server_ends_when_told() {
    let mut server = start(ServerOptions::default());
    assert_eq!(server.end(), ServerEnd::Stopped);
}
