//! What is changed while the VM runs, and what is remembered.

use std::net::TcpListener;

use avocado_vm::control;
use avocado_vm::launch::IdleChange;
use avocado_vm::status::VmState;

use crate::harness::{SmallGuestVm, cannot_run};

#[test]
fn other_idle_settings_count_at_once_and_a_port_is_had_again() {
    if cannot_run("other_idle_settings_count_at_once_and_a_port_is_had_again") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    let port = vm.start().ports.ssh;
    let sleep_after = |secs| IdleChange {
        hibernate_after_secs: Some(secs),
        ..IdleChange::default()
    };
    control::configure(&vm.dir, &sleep_after(1)).unwrap();
    let asleep = vm.until("sleep", |s| s.state == VmState::Hibernated);
    assert_eq!(asleep.reason.as_deref(), Some("idle"));
    control::configure(&vm.dir, &sleep_after(0)).unwrap();
    vm.connect().talk("awake");
    vm.stop();

    vm.launch.last_ssh_port = port;
    assert_eq!(vm.start().ports.ssh, port);
    vm.stop();
    let _taken = TcpListener::bind(("127.0.0.1", port.unwrap())).unwrap();
    assert_ne!(vm.start().ports.ssh, port);
    assert!(
        vm.log().contains("not that of the last start"),
        "{}",
        vm.log()
    );
    vm.stop();
}
