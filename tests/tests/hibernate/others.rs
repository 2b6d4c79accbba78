//! What others do meanwhile.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use avocado_testbed::kernel;
use avocado_vm::control;
use avocado_vm::dir::StateFile;
use avocado_vm::status::VmState;
use serde_json::json;

use crate::clock::clock_is_set;
use crate::harness::{SmallGuestVm, cannot_run};
use crate::peers::{Client, Desktop, Qmp, free_port, refused};

#[test]
fn what_others_do_is_noticed_and_only_counted_lanes_wake() {
    if cannot_run("what_others_do_is_noticed_and_only_counted_lanes_wake") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    vm.launch.infra_port = Some(free_port());
    vm.launch.idle.hibernate_after_secs = 1;
    vm.launch.idle.silent_connection_secs = 2;
    let desktop = Desktop::listen(&mut vm);
    let status = vm.start();
    assert_eq!(desktop.next(), ("vm.notify.starting".to_owned(), json!({})));
    let (method, params) = desktop.next();
    assert_eq!(method, "vm.notify.running");
    assert_eq!(
        params,
        json!({ "pid": status.pid, "ssh_port": status.ports.ssh })
    );

    // It falls asleep by itself, although a client is there and silent.
    let mut client = vm.connect();
    let asleep = vm.until("sleep", |s| s.state == VmState::Hibernated);
    assert_eq!(asleep.reason.as_deref(), Some("idle"));
    assert_eq!((asleep.paused, asleep.connections.counted), (Some(true), 1));
    // Not `cpu_ms`: that goes up by a whole tick when a microsecond of work meets the end of one.
    let qemu = asleep.pid.unwrap();
    let before = kernel::work(qemu).unwrap();
    // It is not woken by the lanes that must not.
    let infra = vm.launch.infra_port.unwrap();
    assert!(refused(infra).contains("hibernated"));
    let mut stream = UnixStream::connect(vm.dir.file(StateFile::DockerStream)).unwrap();
    stream
        .write_all(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"message\""),
        "{answer}"
    );
    assert_eq!(vm.status().state, VmState::Hibernated);
    let used = kernel::work(qemu).unwrap().cpu - before.cpu;
    assert!(used < Duration::from_millis(10), "a tick: {used:?}");
    // What the client has to say does.
    client.talk("hello");
    let status = vm.status();
    assert_eq!(status.last_wake.unwrap().reason, "ssh");
    assert_eq!(desktop.next().0, "vm.notify.woke");

    // Others hold QMP, pause the guest and let it go on.
    let mut qmp = Qmp::connect(&vm.dir);
    qmp.tell("stop");
    let paused = vm.until("the foreign pause", |s| s.state == VmState::Hibernated);
    assert_eq!(
        (paused.reason.as_deref(), paused.paused),
        (Some("external"), Some(true))
    );
    qmp.tell("cont");
    let status = vm.until("the foreign wake", |s| s.state == VmState::Running);
    assert_eq!(status.reason.as_deref(), Some("external"));
    qmp.tell("stop");
    vm.until("the foreign pause", |s| s.state == VmState::Hibernated);
    let before = vm.log().len();
    vm.connect().talk("woken although QMP is held");
    clock_is_set(&vm, before);

    // The infrastructure lane works while it is awake, and does not keep it so.
    vm.connect().talk("awake");
    let mut infra = Client::connect(infra).unwrap();
    infra.talk("telemetry");
    assert_eq!(vm.status().connections.infra, 1);
    drop(client);
    vm.until("sleep", |s| s.state == VmState::Hibernated);
    drop(qmp);
    control::wake(&vm.dir).unwrap();
    vm.stop();
    let said: Vec<String> = desktop.rest();
    assert_eq!(said.last().map(String::as_str), Some("vm.notify.stopped"));
    assert!(said.contains(&"vm.notify.stopping".to_owned()), "{said:?}");
}
