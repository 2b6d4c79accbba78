//! Commands that pause the guest, wake it, and keep it awake.

use std::process::{Command, Stdio};
use std::time::Duration;

use avocado_vm::control;
use avocado_vm::status::VmState;

use crate::harness::{LONG, SmallGuestVm, cannot_run};
use crate::processes::kill;

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
    let asleep = |s: &avocado_vm::status::VmStatus| s.state == VmState::Hibernated;
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
