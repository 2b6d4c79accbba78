//! Many clients at once, and clients that break off in the middle.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Barrier;
use std::time::Duration;

use avocado_vm::control;
use avocado_vm::dir::StateFile;

use crate::harness::{LONG, SmallGuestVm, cannot_run};
use crate::peers::{Client, free_port};

/// QEMU lets two connections wait, the kernel forgets the others: far more than that.
const CROWD: usize = 40;

#[test]
fn many_clients_at_once_are_all_answered() {
    if cannot_run("many_clients_at_once_are_all_answered") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    vm.launch.infra_port = Some(free_port());
    let started = vm.start();
    let crowd = |port: u16| {
        let together = Barrier::new(CROWD);
        let visit = || {
            together.wait();
            // The guest speaks first: a client that says nothing must hear it too.
            Client::connect(port)
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..CROWD).map(|_| scope.spawn(visit)).collect();
            for one in all {
                let mut client = one
                    .join()
                    .unwrap()
                    .unwrap_or_else(|error| panic!("{error}\n{}", vm.log()));
                client.talk("one of many");
            }
        });
    };
    vm.hibernate();
    crowd(started.ports.ssh.unwrap());
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    crowd(started.ports.ssh.unwrap());
    let keeper = vm.connect();
    crowd(vm.launch.infra_port.unwrap());
    drop(keeper);
    let status = vm.until("the end of all connections", |s| {
        (s.connections.counted, s.connections.infra) == (0, 0)
    });
    assert_eq!(status.problem, None);
    vm.stop();
}

/// One more than the lane takes.
#[test]
fn a_client_too_many_is_sent_away_and_told() {
    if cannot_run("a_client_too_many_is_sent_away_and_told") {
        return;
    }
    let vm = SmallGuestVm::new();
    // Its end of the tunnel has more room than the small guest.
    vm.start_with_tunnels();
    let connect = || {
        let stream = UnixStream::connect(vm.dir.file(StateFile::Docker)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    };
    let talk = |stream: &mut UnixStream| {
        stream.write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello", "{}", vm.log());
    };
    let in_turn = |_| {
        let mut client = connect();
        talk(&mut client);
        client
    };
    let mut clients: Vec<UnixStream> = (0..200).map(in_turn).collect();
    let mut said = String::new();
    connect().read_to_string(&mut said).unwrap();
    let why = "the docker lane of the VM has 200 connections open and takes no more";
    assert!(
        said.starts_with("HTTP/1.1 503 ") && said.contains(why),
        "{said}"
    );
    let problem = vm.status().problem.unwrap();
    assert!(problem.contains(why), "{problem}");
    vm.until_log(why);
    talk(clients.last_mut().unwrap());
    drop(clients);
    vm.until("room again", |s| {
        s.connections.counted == 0 && s.problem.is_none()
    });
    talk(&mut connect());
    vm.stop();
}

/// Both directions are full when the client goes: once that was the end of QEMU.
#[test]
fn clients_that_break_off_harm_nobody() {
    if cannot_run("clients_that_break_off_harm_nobody") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    vm.launch.infra_port = Some(free_port());
    vm.start();
    let boot = vm.connect().boot;
    for round in 0..40 {
        let client = match round % 4 {
            3 => Client::connect(vm.launch.infra_port.unwrap()).unwrap(),
            _ => vm.connect(),
        };
        std::thread::scope(|scope| {
            // It never reads what comes back.
            let mut stream = &client.stream;
            let flood = scope.spawn(move || while stream.write_all(&[b'y'; 1 << 16]).is_ok() {});
            std::thread::sleep(Duration::from_millis(40 + 10 * round));
            client.stream.shutdown(Shutdown::Both).unwrap();
            flood.join().unwrap();
        });
    }
    assert_eq!(vm.connect().boot, boot, "{}", vm.log());
    let status = vm.until("the end of all connections", |s| {
        (s.connections.counted, s.connections.infra) == (0, 0)
    });
    assert_eq!(status.problem, None);
    vm.stop();
}
