//! A service for tests, and ways to talk to it.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use avocado_varlink::client::{VarlinkAddress, VarlinkClient};
use avocado_varlink::idl::Interface;
use avocado_varlink::server::{
    Listener, MethodCall, ReplyError, ServerEnd, ServerOptions, ServiceInfo, VarlinkServer,
    VarlinkService,
};
use serde_json::{Value, json};

pub const IDL: &str = "\
interface org.example.test
method Echo(text: string, note: ?string) -> (text: string)
method Count(to: int) -> (n: int)
method Flood() -> (sent: int, text: ?string)
method Meet(name: string) -> ()
method Serial(name: string) -> ()
method Watch(name: string) -> ()
method Leave() -> ()
method Panic() -> ()
method Needy() -> (n: int)
method Unwritten() -> ()
method Who() -> (uid: int, pid: int)
";

pub struct Test {
    pub interfaces: [Interface; 1],
    /// Calls of `Meet` and `Serial` say here that they run…
    pub arrived: Mutex<Sender<String>>,
    /// …and wait here until they may go on.
    pub leave: Mutex<Receiver<()>>,
}

impl VarlinkService for Test {
    fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    fn lane(&self, _: &str, method: &str) -> Option<&'static str> {
        (method == "Serial").then_some("serial")
    }

    fn call(&self, call: MethodCall) {
        let parameter = |name: &str| call.raw_parameters().get(name).cloned().unwrap_or_default();
        let sent = match call.method() {
            "Echo" => {
                let text = parameter("text");
                call.reply(&json!({"text": text}))
            }
            "Count" => {
                let to = parameter("to").as_i64().unwrap();
                for n in 1..to {
                    let _ = call.reply_continues(&json!({"n": n}));
                }
                call.reply(&json!({"n": to}))
            }
            "Flood" => {
                let text = "x".repeat(1000);
                let mut sent = 0;
                while !matches!(
                    call.reply_continues(&json!({"sent": sent, "text": text})),
                    Err(ReplyError::Busy)
                ) {
                    sent += 1;
                }
                call.reply(&json!({"sent": sent}))
            }
            "Meet" | "Serial" => {
                let name = parameter("name").as_str().unwrap().to_owned();
                self.arrived.lock().unwrap().send(name).unwrap();
                self.leave.lock().unwrap().recv().unwrap();
                call.reply(&json!({}))
            }
            "Watch" => {
                let name = parameter("name").as_str().unwrap().to_owned();
                let (tell, told) = channel();
                call.on_cancel(move || tell.send(()).unwrap());
                let arrived = |what| self.arrived.lock().unwrap().send(what).unwrap();
                arrived(name.clone());
                let cancelled = told.recv().is_ok();
                arrived(format!("{name} {cancelled}"));
                call.reply(&json!({}))
            }
            "Panic" => panic!("as the test wants it"),
            "Needy" => call.expected_more(),
            "Unwritten" => call.method_not_implemented(),
            "Who" => {
                let peer = call.peer().unwrap();
                call.reply(&json!({"uid": peer.uid, "pid": peer.pid}))
            }
            _ => return,
        };
        let _ = sent;
    }
}

pub struct Running {
    pub path: PathBuf,
    pub arrived: Receiver<String>,
    pub leave: Sender<()>,
    pub stop: UnixStream,
    pub thread: Option<JoinHandle<ServerEnd>>,
    _directory: tempfile::TempDir,
}

pub fn start(options: ServerOptions) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let (arrived_in, arrived) = channel();
    let (leave, leave_out) = channel();
    let service = Arc::new(Test {
        interfaces: [Interface::parse(IDL).unwrap()],
        arrived: Mutex::new(arrived_in),
        leave: Mutex::new(leave_out),
    });
    let mut server = VarlinkServer::new(service, info(), options).unwrap();
    server
        .listen(Listener::bind(&path, 0o660).unwrap())
        .unwrap();
    let (stop, stopped) = UnixStream::pair().unwrap();
    server.stop_on(stopped.into()).unwrap();
    Running {
        path,
        arrived,
        leave,
        stop,
        thread: Some(std::thread::spawn(move || server.run().unwrap())),
        _directory: directory,
    }
}

pub fn info() -> ServiceInfo {
    ServiceInfo {
        vendor: "Example".into(),
        product: "test".into(),
        version: "1".into(),
        url: "https://example.org".into(),
    }
}

impl Running {
    pub fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        // Not a measure of anything: it turns a hanging test into a failing one.
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    pub fn client(&self) -> VarlinkClient {
        VarlinkClient::connect(&VarlinkAddress::of(&self.path)).unwrap()
    }

    /// Sends these bytes, closes the sending half, and reads until the server closes.
    pub fn exchange(&self, bytes: &[u8]) -> Vec<Value> {
        let mut stream = self.raw();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(&mut stream)
    }

    pub fn end(&mut self) -> ServerEnd {
        self.stop.write_all(b"x").unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.stop.write_all(b"x");
            let _ = self.stop.write_all(b"x");
            let _ = thread.join();
        }
    }
}

pub fn read_all(stream: &mut UnixStream) -> Vec<Value> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // Closed while something of ours was still unread.
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => drop(other.unwrap()),
    }
    let messages = bytes.split(|b| *b == 0).filter(|m| !m.is_empty());
    messages
        .map(|m| serde_json::from_slice(m).unwrap())
        .collect()
}

pub fn read_one(stream: &mut UnixStream) -> Value {
    let mut bytes = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).unwrap();
        if byte == [0] {
            return serde_json::from_slice(&bytes).unwrap();
        }
        bytes.push(byte[0]);
    }
}

pub fn message(value: &Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(0);
    bytes
}

pub fn echo(text: &str) -> Vec<u8> {
    message(&json!({"method": "org.example.test.Echo", "parameters": {"text": text}}))
}
