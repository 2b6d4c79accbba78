//! Many clients at once, and clients that break off in the middle.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Barrier;
use std::time::Duration;

use avocado_vm::control;

use crate::harness::{SmallGuestVm, cannot_run};
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
