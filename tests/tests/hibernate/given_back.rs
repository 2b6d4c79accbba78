//! What the guest does not need any more goes back to the host: blocks of its disks, and memory.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use avocado_vm::control;
use avocado_vm::dir::StateFile;
use avocado_vm::status::VmState;
use serde_json::Value;

use crate::harness::{SmallGuestVm, cannot_run};
use crate::processes::{command_line, kill, until_gone};

const TRIMMED: &str = "the guest's disks are trimmed";

#[test]
fn what_is_deleted_in_the_guest_takes_no_place_on_the_host() {
    if cannot_run("what_is_deleted_in_the_guest_takes_no_place_on_the_host") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    vm.launch.var_size = 16 << 20;
    vm.launch.cmdline_extra = Some("fill".to_owned());
    vm.start();
    let used = || {
        let found = fs::metadata(vm.dir.file(StateFile::Var)).unwrap();
        found.blocks() * 512
    };
    assert!(used() >= 8 << 20, "{}", used());
    // Set once it answers, before any client is let in.
    let log = vm.log();
    let clock = log.find("the guest's clock is set");
    assert!(
        clock.is_some_and(|at| at < log.find("running (start)").unwrap()),
        "{log}"
    );

    // Before it falls asleep by itself, and not each time.
    let after = |secs| {
        let change = avocado_vm::launch::IdleChange {
            hibernate_after_secs: Some(secs),
            ..Default::default()
        };
        control::configure(&vm.dir, &change).unwrap_or_else(|error| vm.fail(&error));
    };
    after(1);
    vm.until("sleep", |status| status.state == VmState::Hibernated);
    assert!(used() < 4 << 20, "{}\n{}", used(), vm.log());
    assert_eq!(vm.log().matches(TRIMMED).count(), 1, "{}", vm.log());
    let mut client = vm.connect();
    client.talk("awake");
    drop(client);
    vm.until("sleep", |status| status.state == VmState::Hibernated);
    assert_eq!(vm.log().matches(TRIMMED).count(), 1, "{}", vm.log());

    // And when it is stopped.
    vm.stop();
    assert_eq!(vm.log().matches(TRIMMED).count(), 2, "{}", vm.log());
}

#[test]
fn what_was_saved_without_the_balloon_goes_on_without_it() {
    if cannot_run("what_was_saved_without_the_balloon_goes_on_without_it") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    vm.launch.var_size = 16 << 20;
    // An earlier version told QEMU nothing of a balloon.
    let old = vm.place.path().join("old");
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|dir| dir.join("qemu-system-x86_64"));
    let real = found.into_iter().find(|path| path.is_file()).unwrap();
    let qemu = vm.place.path().join("qemu");
    let script = format!(
        "#!/bin/sh\n\
         if [ -e '{old}' ]; then\n\
         left=$#; last=\n\
         while [ $left -gt 0 ]; do\n\
         case $1 in\n\
         virtio-balloon*) last= ;;\n\
         *) [ \"$last\" ] && set -- \"$@\" \"$last\"; last=$1 ;;\n\
         esac\n\
         shift; left=$((left - 1))\n\
         done\n\
         [ \"$last\" ] && set -- \"$@\" \"$last\"\n\
         fi\n\
         exec '{real}' \"$@\"\n",
        old = old.display(),
        real = real.display(),
    );
    fs::write(&qemu, script).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&old, "").unwrap();
    vm.launch.qemu = Some(qemu);
    let first = vm.start();
    let has_balloon = |pid: Option<u32>| command_line(pid.unwrap()).contains("virtio-balloon");
    assert!(!has_balloon(first.pid));
    let client = vm.connect();
    let boot = client.boot.clone();
    drop(client);
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    // It stood still with a clock that does so too, and was not let run with that.
    assert_eq!(vm.log().matches(TRIMMED).count(), 0, "{}", vm.log());

    // What was saved without the device goes on without it.
    let supervisor = first.supervisor_pid.unwrap();
    kill(supervisor, rustix::process::Signal::KILL);
    until_gone(supervisor);
    fs::remove_file(&old).unwrap();
    let saved = vm.dir.file(StateFile::Saved);
    let mut facts: Value = serde_json::from_slice(&fs::read(&saved).unwrap()).unwrap();
    let spec = facts["record"]["spec"].as_object_mut().unwrap();
    assert!(spec.remove("gives_back").is_some());
    fs::write(&saved, facts.to_string()).unwrap();
    let next = vm.start();
    assert!(!has_balloon(next.pid));
    assert_eq!(vm.connect().boot, boot, "{}", vm.log());
    vm.stop();
    assert!(has_balloon(vm.start().pid));
    vm.stop();
}
