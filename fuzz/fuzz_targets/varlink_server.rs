//! The server and a client that sends anything: the server comes to its end, each call up to the
//! first message that is none has exactly its answers, and the handlers see only parameters that
//! fit. The first byte says in what pieces the client sends.
#![no_main]

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};

use avocado_varlink::idl::Interface;
use avocado_varlink::server::{
    MethodCall, ServerEnd, ServerOptions, ServiceInfo, VarlinkServer, VarlinkService,
};
use avocado_varlink::wire::{self, CallMode, ReplyMessage};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

const IDL: &str = "\
interface org.example.test
type Kind (a, b)
type Tree (value: ?int, children: []Tree, named: [string]Tree)
method Echo(text: string, note: ?string) -> (text: string)
method Count(to: int) -> (n: int)
method Plant(tree: Tree, kind: ?Kind, more: ?object) -> (tree: Tree)
method Fail(name: string) -> ()
error Failed (name: string)
";

/// The longest message that the server takes.
const LONGEST: usize = 512;

static INTERFACES: LazyLock<[Interface; 1]> = LazyLock::new(|| [Interface::parse(IDL).unwrap()]);

struct Test;

impl VarlinkService for Test {
    fn interfaces(&self) -> &[Interface] {
        INTERFACES.as_slice()
    }

    fn lane(&self, _: &str, method: &str) -> Option<&'static str> {
        (method == "Echo").then_some("echo")
    }

    fn call(&self, call: MethodCall) {
        let parameters = call.raw_parameters().clone();
        INTERFACES[0]
            .check_call(call.method(), &parameters)
            .unwrap();
        // The client may be gone.
        let _ = match call.method() {
            "Echo" => call.reply(&json!({"text": parameters["text"]})),
            "Count" => {
                for n in 1..parameters["to"].as_i64().unwrap().min(4) {
                    let _ = call.reply_continues(&json!({"n": n}));
                }
                call.reply(&json!({"n": 0}))
            }
            "Plant" => call.reply(&json!({"tree": parameters["tree"]})),
            "Fail" => call.reply_error("org.example.test.Failed", &parameters),
            other => panic!("nobody declared {other}"),
        };
    }
}

/// How many calls are to be answered, as the bytes say it.
fn expected(bytes: &[u8]) -> usize {
    let mut messages: Vec<_> = bytes.split(|byte| *byte == 0).collect();
    messages.pop();
    let fit = messages
        .into_iter()
        .take_while(|message| message.len() <= LONGEST);
    let calls = fit.map_while(|message| wire::CallMessage::parse(message).ok());
    calls.filter(|call| call.mode != CallMode::Oneway).count()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, bytes)) = bytes.split_first() else {
        return;
    };
    let (mut client, served) = UnixStream::pair().unwrap();
    let info = ServiceInfo {
        vendor: "v".to_owned(),
        product: "p".to_owned(),
        version: "1".to_owned(),
        url: "u".to_owned(),
    };
    let options = ServerOptions {
        max_message: LONGEST,
        max_running: 2,
        ..ServerOptions::default()
    };
    let mut server = VarlinkServer::new(Arc::new(Test), info, options).unwrap();
    server.adopt(served.into()).unwrap();
    let answers = std::thread::scope(|scope| {
        let reader = client.try_clone().unwrap();
        let answers = scope.spawn(move || read(reader));
        scope.spawn(move || {
            for piece in bytes.chunks(usize::from(how).max(1)) {
                // The server hangs up on a client that does not speak varlink.
                if client.write_all(piece).is_err() {
                    break;
                }
            }
            let _ = client.shutdown(Shutdown::Write);
        });
        assert_eq!(server.run().unwrap(), ServerEnd::NoClients);
        answers.join().unwrap()
    });
    assert!(answers.is_empty() || answers.ends_with(b"\0"));
    let messages = answers.split(|byte| *byte == 0);
    let replies = messages.filter(|message| !message.is_empty());
    let replies = replies.map(|message| ReplyMessage::parse(message).expect("a reply"));
    let finals = replies.filter(|reply| !reply.continues);
    assert_eq!(finals.map(|reply| known(&reply)).count(), expected(bytes));
});

/// Everything that the server says of its own is declared.
fn known(reply: &ReplyMessage) {
    let Some(error) = &reply.error else {
        return;
    };
    let Some(name) = error.strip_prefix("org.varlink.service.") else {
        assert_eq!(error, "org.example.test.Failed");
        return;
    };
    static SERVICE: LazyLock<Interface> =
        LazyLock::new(|| Interface::parse(avocado_varlink::server::SERVICE_IDL).unwrap());
    SERVICE.check_error(name, &reply.parameters).unwrap();
}

fn read(mut stream: UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => bytes,
    }
}
