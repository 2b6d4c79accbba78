//! Starts that fail, and a guest that does not end.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use avocado_vm::control;
use avocado_vm::dir::StateFile;
use avocado_vm::status::VmState;

use crate::harness::{LONG, SmallGuestVm, cannot_run};
use crate::processes::{kill, until_gone};

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    if cannot_run("a_start_that_fails_says_why_and_leaves_nothing") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    // A process has the port: this test.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    vm.launch.ssh_port = Some(taken.local_addr().unwrap().port());
    let error = vm.try_start().unwrap_err();
    let me = format!("(process {})", std::process::id());
    assert!(
        error.to_string().contains("is taken by ") && error.to_string().ends_with(&me),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("--ssh-port"));
    vm.nothing_left();
    vm.launch.ssh_port = None;

    // QEMU does not even start.
    vm.launch.memory_mib = 1 << 30;
    let begin = Instant::now();
    let error = vm.try_start().unwrap_err();
    assert!(error.to_string().contains("QEMU ended"), "{error}");
    assert!(
        begin.elapsed() < LONG / 2,
        "an early end is noticed at once"
    );
    vm.nothing_left();
    vm.launch.memory_mib = 96;

    // The guest never answers.
    vm.launch.cmdline_extra = Some("rdinit=/bin/true panic=0".to_owned());
    vm.launch.ready_timeout_secs = 5;
    let error = vm.try_start().unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("did not answer") && text.contains("its last lines"),
        "{text}"
    );
    vm.nothing_left();
    vm.launch.cmdline_extra = None;
    vm.launch.ready_timeout_secs = 120;

    // Two at once, and the files of a QEMU whose process id belongs to another process by now.
    fs::write(
        vm.dir.file(StateFile::QemuPid),
        std::process::id().to_string(),
    )
    .unwrap();
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| vm.try_start());
        (vm.try_start(), other.join().unwrap())
    });
    let (good, bad): (Vec<_>, Vec<_>) = [one, other].into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (1, 1), "{good:?} {bad:?}");
    let why = bad.into_iter().next().unwrap().unwrap_err();
    assert!(why.to_string().contains("in use by"), "{why}");
    vm.connect().talk("one of them");

    // A third finds it running, and changes nothing.
    assert!(
        vm.try_start()
            .unwrap_err()
            .to_string()
            .contains("in use by")
    );
    vm.connect().talk("still");
    vm.stop();
}

#[test]
fn a_guest_that_does_not_hear_is_ended_only_by_force() {
    if cannot_run("a_guest_that_does_not_hear_is_ended_only_by_force") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    vm.launch.cmdline_extra = Some("deaf".to_owned());
    let status = vm.start();
    vm.hibernate();
    let limit = Duration::from_secs(2);
    let error = control::stop(&vm.program, &vm.dir, false, limit).unwrap_err();
    assert!(error.hint().unwrap().contains("--force"), "{error}");
    vm.connect().talk("still managed");
    // Not even QEMU answers.
    kill(status.pid.unwrap(), rustix::process::Signal::STOP);
    let hung = vm.status();
    assert_eq!((hung.running, hung.paused), (true, None));
    assert!(control::stop(&vm.program, &vm.dir, true, LONG).unwrap());
    vm.nothing_left();
    until_gone(status.supervisor_pid.unwrap());
}

#[test]
fn a_supervisor_that_hangs_is_told_and_ended_by_force() {
    if cannot_run("a_supervisor_that_hangs_is_told_and_ended_by_force") {
        return;
    }
    let vm = SmallGuestVm::new();
    let started = vm.start();
    let supervisor = started.supervisor_pid.unwrap();
    kill(supervisor, rustix::process::Signal::STOP);
    let hung = vm.status();
    assert_eq!(
        (hung.state, hung.paused, hung.pid),
        (VmState::Unresponsive, None, started.pid)
    );
    assert_eq!(
        (hung.supervisor_pid, hung.ports.ssh),
        (Some(supervisor), started.ports.ssh)
    );
    // Asked for, and given up, while it hangs.
    let mut asked = UnixStream::connect(vm.dir.file(StateFile::Supervisor)).unwrap();
    asked
        .write_all(b"{\"method\":\"stop\",\"params\":{\"force\":true}}\n")
        .unwrap();
    drop(asked);
    assert!(control::hibernate(&vm.dir).is_err());
    kill(supervisor, rustix::process::Signal::CONT);
    vm.until_log("a request to stop by force is not carried out");
    let mut client = vm.connect();
    client.talk("nobody stopped it");
    let status = vm.status();
    assert_eq!((status.state, status.problem), (VmState::Running, None));

    // It hangs for good, with QEMU or without.
    kill(supervisor, rustix::process::Signal::STOP);
    kill(started.pid.unwrap(), rustix::process::Signal::STOP);
    let unheard = control::stop(&vm.program, &vm.dir, false, LONG).unwrap_err();
    assert!(unheard.hint().unwrap().contains("--force"), "{unheard}");
    assert!(control::stop(&vm.program, &vm.dir, true, LONG).unwrap());
    until_gone(supervisor);
    vm.nothing_left();
    vm.start();
    vm.stop();
}
