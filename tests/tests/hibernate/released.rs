//! Memory that goes back to the host.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use avocado_vm::control;
use avocado_vm::dir::StateFile;
use avocado_vm::status::VmState;

use crate::harness::{SmallGuestVm, cannot_run};
use crate::peers::{Client, free_port, refused};
use crate::processes::{command_line, is_alive, kill, processes_of, until_gone};

#[test]
fn released_memory_comes_back_and_only_where_it_belongs() {
    if cannot_run("released_memory_comes_back_and_only_where_it_belongs") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    vm.launch.infra_port = Some(free_port());
    let first = vm.start();
    let client = vm.connect();
    let (boot, count) = (client.boot.clone(), client.count);
    let denied = control::release(&vm.dir).unwrap_err();
    assert!(denied.to_string().contains("in use"), "{denied}");
    drop(client);
    vm.until("the end of all connections", |s| s.connections.counted == 0);

    control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    let status = vm.status();
    assert_eq!(
        (status.state, status.pid, status.paused),
        (VmState::Released, None, Some(true))
    );
    assert!(!is_alive(first.pid.unwrap()));
    assert!(refused(vm.launch.infra_port.unwrap()).contains("hibernated"));
    assert_eq!(
        vm.status().state,
        VmState::Released,
        "the infrastructure lane wakes no guest"
    );
    let mut client = vm.connect();
    client.talk("back");
    goes_on(&client, &boot, count);
    drop(client);
    assert!(
        !vm.dir.file(StateFile::Saved).exists() && !vm.dir.file(StateFile::SavedMemory).exists()
    );

    // A save that fails is told, and nothing is lost.
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    fs::create_dir(vm.dir.file(StateFile::SavedMemory)).unwrap();
    let error = control::release(&vm.dir).unwrap_err();
    assert!(format!("{error:?}").contains("saved-memory"), "{error:?}");
    let status = vm.status();
    assert_eq!(
        (status.state, status.paused),
        (VmState::Hibernated, Some(true))
    );
    assert!(status.problem.unwrap().contains("not released"));
    fs::remove_dir(vm.dir.file(StateFile::SavedMemory)).unwrap();
    assert_eq!(vm.connect().boot, boot);

    let count = vm.connect().count;

    // Also for another supervisor.
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    let supervisor = vm.status().supervisor_pid.unwrap();
    kill(supervisor, rustix::process::Signal::KILL);
    until_gone(supervisor);
    let is_saved = || {
        let status = vm.status();
        assert_eq!(
            (status.state, status.reason.as_deref()),
            (VmState::Stopped, Some("saved"))
        );
    };
    is_saved();
    // A thread of the killed one may hold the lock a little longer.
    let lock = fs::File::open(vm.dir.file(StateFile::Lock)).unwrap();
    lock.lock().unwrap();
    is_saved();
    drop(lock);
    vm.start();
    let client = vm.connect();
    goes_on(&client, &boot, count);
    drop(client);

    // A disk that changed meanwhile: what was saved is void.
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    let disk = fs::OpenOptions::new()
        .append(true)
        .open(vm.dir.file(StateFile::Var))
        .unwrap();
    (&disk).write_all(&[0; 512]).unwrap();
    let problem = vm.status().problem.unwrap_or_default();
    assert!(problem.contains("has changed"), "{problem}");
    let client = vm.connect();
    assert_ne!(client.boot, boot);
    assert!(vm.log().contains("has changed"), "{}", vm.log());
    drop(client);

    // To stop a released VM leaves a guest that powered off.
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    vm.stop();
    assert!(vm.log().contains("ended (requested)"), "{}", vm.log());
}

/// The guest remembers what was before: which boot it is, and that it had so many connections. Those are
/// not this test's alone: a look whether its ssh answers yet that was given up while it booted slowly may
/// reach it, and be counted, after the first client.
fn goes_on(client: &Client, boot: &str, count: u64) {
    assert_eq!(client.boot, boot);
    assert!(client.count > count, "{} after {count}", client.count);
}

#[test]
fn on_the_way_to_the_file_and_back_no_guest_is_lost() {
    if cannot_run("on_the_way_to_the_file_and_back_no_guest_is_lost") {
        return;
    }
    let vm = SmallGuestVm::new();
    vm.start();
    let boot = vm.connect().boot;
    let quiet = || vm.until("the end of all connections", |s| s.connections.counted == 0);
    let goes_on = |what: &str, delay: u64| {
        let mut client = vm.connect();
        client.talk(what);
        assert_eq!(client.boot, boot, "{what}, {delay} ms\n{}", vm.log());
    };
    let kill_supervisor = || {
        let supervisor = vm.status().supervisor_pid.unwrap();
        kill(supervisor, rustix::process::Signal::KILL);
        until_gone(supervisor);
    };

    for delay in (0..80).step_by(4) {
        quiet();
        std::thread::scope(|scope| {
            let release = scope.spawn(|| control::release(&vm.dir));
            std::thread::sleep(Duration::from_millis(delay));
            goes_on("a client comes while memory is saved", delay);
            let _ = release.join().unwrap();
        });
    }
    for delay in [0, 10, 20, 40, 80, 160] {
        quiet();
        std::thread::scope(|scope| {
            let release = scope.spawn(|| control::release(&vm.dir));
            std::thread::sleep(Duration::from_millis(delay));
            kill_supervisor();
            let _ = release.join().unwrap();
        });
        vm.start();
        goes_on("the supervisor is killed while memory is saved", delay);
    }
    for delay in [0, 20, 40, 80, 160, 320] {
        quiet();
        control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
        std::thread::scope(|scope| {
            let wake = scope.spawn(|| control::wake(&vm.dir));
            std::thread::sleep(Duration::from_millis(delay));
            kill_supervisor();
            let _ = wake.join().unwrap();
        });
        vm.start();
        goes_on("the supervisor is killed while memory is restored", delay);
    }
    let mut kept = 0;
    for delay in [0, 0, 20, 40, 80] {
        quiet();
        control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
        std::thread::scope(|scope| {
            let wake = scope.spawn(|| control::wake(&vm.dir));
            let qemu = loop {
                let mut all = processes_of(vm.dir.root()).into_iter();
                if let Some(pid) = all.find(|pid| command_line(*pid).contains("-incoming")) {
                    break pid;
                }
                assert!(!wake.is_finished(), "no QEMU\n{}", vm.log());
            };
            std::thread::sleep(Duration::from_millis(delay));
            kill(qemu, rustix::process::Signal::KILL);
            until_gone(qemu);
            let _ = wake.join().unwrap();
        });
        if vm.status().state != VmState::Released {
            // It ran already, and that is the end of it.
            break;
        }
        kept += 1;
        goes_on("QEMU is killed while memory is restored", delay);
    }
    assert!(kept > 0, "{}", vm.log());
}

#[test]
fn what_cannot_be_brought_back_now_is_kept_until_it_is_given_up() {
    if cannot_run("what_cannot_be_brought_back_now_is_kept_until_it_is_given_up") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    // A QEMU that is killed while it takes the memory back, for as long as there is a file.
    let short = vm.place.path().join("short");
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|dir| dir.join("qemu-system-x86_64"));
    let real = found.into_iter().find(|path| path.is_file()).unwrap();
    let qemu = vm.place.path().join("qemu");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *-incoming*) [ -e '{}' ] && kill -9 $$;; esac\nexec '{}' \"$@\"\n",
        short.display(),
        real.display(),
    );
    fs::write(&qemu, &script).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    vm.launch.qemu = Some(qemu.clone());
    let first = vm.start();
    let boot = vm.connect().boot;
    let release = || {
        vm.until("the end of all connections", |s| s.connections.counted == 0);
        control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    };
    let stays_released = || {
        let error = control::wake(&vm.dir).unwrap_err();
        assert!(error.to_string().contains("restored"), "{error}");
        assert!(error.hint().unwrap().contains("--force"), "{error:?}");
        assert_eq!(vm.status().state, VmState::Released);
    };
    release();
    fs::write(&short, "").unwrap();
    stays_released();
    stays_released();
    fs::remove_file(&short).unwrap();
    assert_eq!(vm.connect().boot, boot);

    // Another QEMU has its disk.
    release();
    let mut other = Command::new(&real)
        .args(["-machine", "q35", "-S", "-nodefaults", "-display", "none"])
        .args(["-qmp", "stdio", "-drive"])
        .arg(format!(
            "if=virtio,format=raw,file={}",
            vm.dir.file(StateFile::Var).display()
        ))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut greeting = String::new();
    BufReader::new(other.stdout.as_mut().unwrap())
        .read_line(&mut greeting)
        .unwrap();
    assert!(greeting.contains("QMP"), "{greeting}");
    stays_released();
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(vm.connect().boot, boot, "{}", vm.log());

    // The same for the next supervisor.
    release();
    kill(first.supervisor_pid.unwrap(), rustix::process::Signal::KILL);
    until_gone(first.supervisor_pid.unwrap());
    fs::write(&short, "").unwrap();
    let error = vm.try_start().unwrap_err();
    assert!(error.to_string().contains("signal 9"), "{error}");
    assert!(vm.log().contains("stop --force"), "{}", vm.log());
    assert_eq!(vm.status().reason.as_deref(), Some("saved"));
    fs::remove_file(&short).unwrap();
    let next = vm.start();
    assert_eq!(vm.connect().boot, boot);

    // Stopped without a supervisor, it ends as it should.
    release();
    kill(next.supervisor_pid.unwrap(), rustix::process::Signal::KILL);
    until_gone(next.supervisor_pid.unwrap());
    vm.stop();
    assert!(vm.log().contains("ended (requested)"), "{}", vm.log());
    let next = vm.start();
    let boot = vm.connect().boot;

    // Given up without a supervisor: the guest boots anew, and nothing else is said.
    release();
    kill(next.supervisor_pid.unwrap(), rustix::process::Signal::KILL);
    until_gone(next.supervisor_pid.unwrap());
    assert!(control::give_up_saved(&vm.dir).unwrap());
    assert!(!control::give_up_saved(&vm.dir).unwrap());
    vm.nothing_left();
    assert_eq!(vm.status().reason, None);
    let last = vm.start();
    let client = vm.connect();
    assert_ne!(client.boot, boot);
    drop(client);

    // And where QEMU ended unseen, the next start says so.
    for pid in [last.supervisor_pid.unwrap(), last.pid.unwrap()] {
        kill(pid, rustix::process::Signal::KILL);
        until_gone(pid);
    }
    assert!(!vm.log().contains("had no supervisor"), "{}", vm.log());
    vm.start();
    assert!(vm.log().contains("had no supervisor"), "{}", vm.log());

    // Another QEMU does not get the memory.
    let boot = vm.connect().boot;
    release();
    fs::write(&qemu, format!("{script}# another one\n")).unwrap();
    assert_ne!(vm.connect().boot, boot);
    assert!(vm.log().contains("QEMU is another one"), "{}", vm.log());
    vm.stop();
}
