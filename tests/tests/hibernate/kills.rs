//! Supervisor and QEMU are killed.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use avocado_vm::control;
use avocado_vm::dir::StateFile;
use avocado_vm::status::VmState;

use crate::harness::{LONG, SmallGuestVm, cannot_run};
use crate::peers::Qmp;
use crate::processes::{command_line, is_alive, kill, processes_of, until_gone};

#[test]
fn a_killed_supervisor_is_replaced_in_every_state_and_the_guest_goes_on() {
    if cannot_run("a_killed_supervisor_is_replaced_in_every_state_and_the_guest_goes_on") {
        return;
    }
    let vm = SmallGuestVm::new();
    let first = vm.start();
    let boot = vm.connect().boot;
    // (what it did when it was killed, what the next one finds)
    let mut last = first.clone();
    for asleep in [false, true] {
        if asleep {
            vm.hibernate();
        }
        kill(last.supervisor_pid.unwrap(), rustix::process::Signal::KILL);
        until_gone(last.supervisor_pid.unwrap());
        let alone = vm.status();
        assert_eq!((alone.state, alone.running), (VmState::Unsupervised, true));
        assert_eq!((alone.pid, alone.paused), (first.pid, None));

        last = vm.start();
        let found = if asleep {
            VmState::Hibernated
        } else {
            VmState::Running
        };
        assert_eq!((last.pid, last.state), (first.pid, found), "{}", vm.log());
        assert_eq!(last.reason.as_deref(), Some("adopted"));
        assert_eq!(vm.status().paused, Some(asleep));
        let mut client = vm.connect();
        client.talk("still there");
        assert_eq!(client.boot, boot);
    }
    vm.until("the end of all connections", |s| s.connections.counted == 0);

    // Stopped while it is taken over, which fails because another client holds QMP: the guest lives,
    // and no client is told otherwise.
    kill(last.supervisor_pid.unwrap(), rustix::process::Signal::KILL);
    until_gone(last.supervisor_pid.unwrap());
    let held = UnixStream::connect(vm.dir.file(StateFile::SupervisorQmp)).unwrap();
    std::thread::scope(|scope| {
        let start = scope.spawn(|| vm.try_start());
        vm.until("another supervisor", |status| {
            status.supervisor_pid.is_some()
        });
        let stopped = control::stop(&vm.program, &vm.dir, true, LONG);
        assert!(stopped.is_err(), "{}", vm.log());
        assert!(start.join().unwrap().is_err(), "{}", vm.log());
    });
    let alone = vm.status();
    assert_eq!((alone.state, alone.pid), (VmState::Unsupervised, first.pid));
    drop(held);
    vm.start();
    assert_eq!(vm.connect().boot, boot, "{}", vm.log());
    vm.until("the end of all connections", |s| s.connections.counted == 0);

    // In the middle of a start: at worst the guest boots anew, but never twice at once.
    vm.stop();
    for delay in [0, 30, 120, 400, 1500] {
        let killed = std::thread::scope(|scope| {
            let start = scope.spawn(|| vm.try_start());
            let deadline = Instant::now() + LONG;
            let pid = loop {
                // The file of the one before is still there.
                let pid = vm.dir.read_line(StateFile::SupervisorPid);
                let pid = pid.map(|pid| pid.parse().unwrap());
                if let Some(pid) = pid.filter(|pid| is_alive(*pid)) {
                    break pid;
                }
                assert!(Instant::now() < deadline, "no supervisor\n{}", vm.log());
                std::thread::yield_now();
            };
            std::thread::sleep(Duration::from_millis(delay));
            kill(pid, rustix::process::Signal::KILL);
            until_gone(pid);
            start.join().unwrap().is_err()
        });
        assert!(killed, "{}", vm.log());
        // QEMU may have been started, and not be recorded yet.
        vm.until("the truth about QEMU", |status| {
            let mut all = processes_of(vm.dir.root()).into_iter();
            let lives = all.any(|pid| command_line(pid).contains("-pidfile"));
            (status.state == VmState::Unsupervised) == lives
        });
    }
    last = vm.start();
    vm.connect().talk("after all");
    let qemus = processes_of(vm.dir.root());
    let qemus = qemus
        .iter()
        .filter(|pid| Some(**pid) != last.supervisor_pid);
    assert_eq!(qemus.copied().collect::<Vec<_>>(), [last.pid.unwrap()]);
    vm.until("the end of all connections", |s| s.connections.counted == 0);

    // Stopping works without one as well.
    vm.hibernate();
    kill(last.supervisor_pid.unwrap(), rustix::process::Signal::KILL);
    until_gone(last.supervisor_pid.unwrap());
    vm.stop();
    until_gone(last.pid.unwrap());

    // And a start that is stopped leaves nothing.
    for delay in [0, 100, 1000] {
        std::thread::scope(|scope| {
            let start = scope.spawn(|| vm.try_start());
            let deadline = Instant::now() + LONG;
            while !vm.dir.file(StateFile::Supervisor).exists() {
                assert!(Instant::now() < deadline, "no supervisor\n{}", vm.log());
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(delay));
            let stopped = control::stop(&vm.program, &vm.dir, true, LONG);
            assert!(stopped.unwrap_or_else(|error| vm.fail(&error)));
            let error = start.join().unwrap().unwrap_err();
            assert!(error.to_string().contains("stopped"), "{error}");
        });
        vm.nothing_left();
    }
}

#[test]
fn the_end_of_qemu_is_the_end_of_its_supervisor() {
    if cannot_run("the_end_of_qemu_is_the_end_of_its_supervisor") {
        return;
    }
    for (asleep, end) in [(false, "quit"), (true, "kill"), (true, "signal")] {
        let vm = SmallGuestVm::new();
        let status = vm.start();
        let mut client = vm.connect();
        if asleep {
            vm.hibernate();
        }
        let pid = status.pid.unwrap();
        match end {
            "quit" => Qmp::connect(&vm.dir).tell("quit"),
            "kill" => kill(pid, rustix::process::Signal::KILL),
            // A signal to the supervisor is a request to stop: the guest powers off.
            _ => kill(
                status.supervisor_pid.unwrap(),
                rustix::process::Signal::TERM,
            ),
        }
        until_gone(pid);
        until_gone(status.supervisor_pid.unwrap());
        vm.nothing_left();
        let mut rest = String::new();
        // Closed or reset, but not held.
        let _ = client.reader.read_to_string(&mut rest);
        assert_eq!(rest, "");
    }
}
