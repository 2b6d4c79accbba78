//! A guest that starts anew by itself.

use avocado_testbed::small_guest;
use avocado_testbed::tools::skip_without;
use avocado_vm::control;
use avocado_vm::status::VmState;

use crate::harness::{SmallGuestVm, cannot_run};
use crate::peers::{Desktop, Qmp};

#[test]
fn a_guest_that_starts_anew_is_waited_for() {
    if cannot_run("a_guest_that_starts_anew_is_waited_for") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    let desktop = Desktop::listen(&mut vm);
    let started = vm.start();
    assert_eq!(desktop.next().0, "vm.notify.starting");
    assert_eq!(desktop.next().0, "vm.notify.running");
    let warnings = |log: &str| log.matches("warning: ").count();
    let warned = warnings(&vm.log());
    let boot = vm.connect().boot;

    Qmp::connect(&vm.dir).tell("system_reset");
    let rebooting = vm.until("the reboot", |s| s.state == VmState::Starting);
    assert_eq!(rebooting.reason.as_deref(), Some("reboot"));
    // Whoever comes now waits until it answers.
    let second = vm.connect().boot;
    assert_ne!(second, boot);
    let status = vm.status();
    assert_eq!(
        (status.state, status.pid, status.problem),
        (VmState::Running, started.pid, None)
    );
    assert_eq!(desktop.next().0, "vm.notify.starting");
    assert_eq!(desktop.next().0, "vm.notify.running");
    // It was set up once more, and no more than that: the small guest warns once each time.
    assert_eq!(warnings(&vm.log()), 2 * warned, "{}", vm.log());

    // Asleep: it is waited for when it wakes.
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    vm.hibernate();
    Qmp::connect(&vm.dir).tell("system_reset");
    vm.until_log("the guest starts anew");
    let third = vm.connect().boot;
    assert_ne!(third, second, "{}", vm.log());
    vm.stop();
}

#[test]
fn a_panic_is_told_with_its_last_words() {
    let name = "a_panic_is_told_with_its_last_words";
    if cannot_run(name) || skip_without(name, &small_guest::needs_for_panics()) {
        return;
    }
    let mut vm = SmallGuestVm::new();
    // So that a test can make it panic.
    vm.launch.cmdline_extra = Some("unknown_nmi_panic".to_owned());
    vm.start();
    let before = vm.connect().boot;
    // One that is open does not end with the guest's side of it.
    vm.until("the end of all connections", |s| s.connections.counted == 0);

    // Its kernel panics, and starts anew as its command line says.
    Qmp::connect(&vm.dir).tell("inject-nmi");
    let said = |words: &str, problem: &Option<String>| {
        problem
            .as_ref()
            .is_some_and(|problem| problem.contains(words))
    };
    let words = "Kernel panic - not syncing";
    let panicked = vm.until("the panic", |s| said(words, &s.problem));
    let problem = panicked.problem.unwrap();
    assert!(problem.contains("kernel panicked"), "{problem}");
    vm.until("the reboot", |s| said("it has started anew", &s.problem));
    assert_ne!(vm.connect().boot, before, "{}", vm.log());
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    control::hibernate(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    vm.connect().talk("as before");
    vm.stop();
}
