//! What keeps the guest awake: commands for that, and work for clients that are silent.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use avocado_vm::control;
use avocado_vm::dir::StateFile;
use avocado_vm::status::{VmState, VmStatus};

use crate::harness::{LONG, SmallGuestVm, cannot_run};
use crate::processes::kill;

fn asleep(status: &VmStatus) -> bool {
    status.state == VmState::Hibernated
}

/// A VM whose guest sleeps after a second, whoever is connected.
fn sleepy(words: &str) -> SmallGuestVm {
    let mut vm = SmallGuestVm::new();
    vm.launch.cmdline_extra = Some(words.to_owned());
    vm.launch.idle.hibernate_after_secs = 1;
    vm.launch.idle.silent_connection_secs = 1;
    vm
}

/// It stays awake by this sign for much longer than it otherwise would.
fn stays_awake(vm: &SmallGuestVm, work: &str) {
    vm.until(work, |s| s.work.as_deref() == Some(work));
    // To see that nothing happens takes time.
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        assert_eq!(vm.status().state, VmState::Running, "{work}: {}", vm.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn open_docker_requests_keep_it_awake_and_watchers_do_not() {
    if cannot_run("open_docker_requests_keep_it_awake_and_watchers_do_not") {
        return;
    }
    let vm = sleepy("");
    vm.start_with_tunnels();
    let ask = |line: &str| {
        let mut client = UnixStream::connect(vm.dir.file(StateFile::Docker)).unwrap();
        client
            .write_all(format!("{line} HTTP/1.1\r\nHost: d\r\n\r\n").as_bytes())
            .unwrap();
        client
    };
    // What is at the end of the tunnel repeats it, which is no answer.
    let waits = ask("POST /v1.41/containers/c/wait");
    stays_awake(&vm, "docker");
    let watches = ask("GET /v1.41/events");
    drop(waits);
    let status = vm.until("sleep", asleep);
    assert_eq!(status.connections.counted, 1);
    drop(watches);
    vm.stop();
}

#[test]
fn programs_of_sessions_keep_it_awake() {
    if cannot_run("programs_of_sessions_keep_it_awake") {
        return;
    }
    let vm = sleepy("sessions");
    vm.start();
    let mut session = vm.connect();
    stays_awake(&vm, "ssh");
    session.talk("still there");
    drop(session);
    vm.until("sleep", asleep);
    vm.stop();
}

#[test]
fn a_download_of_the_guest_keeps_it_awake() {
    if cannot_run("a_download_of_the_guest_keeps_it_awake") {
        return;
    }
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let vm = sleepy(&format!("fetch={port}"));
    vm.start();
    let (mut download, _) = server.accept().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let sender = std::thread::spawn({
        let done = done.clone();
        move || {
            while !done.load(Ordering::SeqCst) {
                let _ = download.write_all(&[0; 8 << 10]);
                std::thread::sleep(Duration::from_millis(100));
            }
            download
        }
    });
    // Nobody waits for it yet.
    vm.until("sleep", asleep);
    let silent = vm.connect();
    stays_awake(&vm, "network");
    done.store(true, Ordering::SeqCst);
    let _download = sender.join().unwrap();
    let status = vm.until("sleep", asleep);
    assert_eq!(status.connections.counted, 1);
    drop(silent);
    vm.stop();
}

#[test]
fn commands_pause_it_wake_it_and_keep_it_awake() {
    if cannot_run("commands_pause_it_wake_it_and_keep_it_awake") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    vm.launch.idle.hibernate_after_secs = 1;
    vm.start();
    let command = |words: &[&str]| {
        let mut command = Command::new(&vm.program);
        command
            .arg("vm")
            .args(words)
            .env("AVOCADO_VM_STATE_DIR", vm.dir.root())
            .stdin(Stdio::null());
        command
    };
    let run = |words: &[&str]| {
        let output = command(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    assert_eq!(run(&["hibernate"]).0, Some(0), "{}", vm.log());
    vm.until("sleep", asleep);
    assert_eq!(run(&["wake"]).0, Some(0), "{}", vm.log());
    assert_eq!(vm.status().last_wake.unwrap().reason, "request");

    // One that ends by itself, with the exit code of its command; it wakes the guest before.
    vm.until("sleep", asleep);
    let code = run(&["keep-awake", "--while", "sh", "-c", "exit 7"]);
    assert_eq!(code.0, Some(7), "{code:?}");
    vm.until("sleep", asleep);
    let (code, said) = run(&["keep-awake", "--for", "1s"]);
    assert_eq!((code, vm.status().keep_awakes), (Some(0), 0), "{said}");

    // One that is killed keeps nothing awake any more.
    let mut held = command(&["keep-awake"]).spawn().unwrap();
    vm.until("a command that keeps it awake", |s| s.keep_awakes == 1);
    let (code, said) = run(&["hibernate"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("keeps the guest awake"), "{said}");
    // To see that nothing happens takes time.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(vm.status().state, VmState::Running, "{}", vm.log());
    kill(held.id(), rustix::process::Signal::KILL);
    held.wait().unwrap();
    vm.until("sleep", asleep);

    // The end of the VM is told.
    let awake = control::keep_awake(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    vm.stop();
    assert!(!awake.lasts(Some(LONG)).unwrap(), "it is not told");
}
