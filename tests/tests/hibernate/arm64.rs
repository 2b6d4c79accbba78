//! A guest of another architecture, from its start to its end: with QEMU's own device tree, and
//! with one that has idle states.

use std::fs;
use std::path::PathBuf;

use avocado_qemu::MachineSpec;
use avocado_qemu::device_tree::{IdleStatesChoice, prepare};
use avocado_test_support::skip;
use avocado_testbed::tools::{TestNeed, skip_without};
use avocado_testbed::{arm64, small_guest};
use avocado_vm::control;
use avocado_vm::dir::StateFile;
use avocado_vm::status::VmState;
use serde_json::Value;

use crate::clock::clock_is_set;
use crate::harness::SmallGuestVm;
use crate::processes::is_alive;

#[test]
fn a_guest_of_arm64_sleeps_and_comes_back() {
    let name = "a_guest_of_arm64_sleeps_and_comes_back";
    let mut needs = small_guest::needs_for_arm64();
    needs.push(TestNeed::Binary("avocado"));
    if skip_without(name, &needs) {
        return;
    }
    let parts = match arm64::parts() {
        Ok(parts) => parts,
        Err(error) => return skip(name, format!("no kernel for arm64: {error}")),
    };
    let image = tempfile::tempdir().unwrap();
    small_guest::image_for_arm64(image.path(), &parts).unwrap();
    let mut vm = SmallGuestVm::of(image.path());
    vm.launch.cpus = 2;
    vm.launch.memory_mib = 256;

    let status = vm.start();
    assert_eq!(status.platform.as_deref(), Some("avocado-qemuarm64"));
    assert_eq!(status.architecture.as_deref(), Some("arm64"));
    assert_eq!(idle_driver(&vm), "none");
    let tree = with_idle_states(&vm);
    let first = lives_through_both_tiers(&vm);
    vm.stop();

    // Also where nothing but the device tree says how to sleep: the saved memory has to come back
    // on the same one.
    vm.launch.device_tree = Some(tree);
    vm.start();
    assert_eq!(idle_driver(&vm), "psci_idle");
    let second = lives_through_both_tiers(&vm);
    assert_ne!(first, second);
    vm.stop();
}

/// Sleeps, wakes, sleeps deeper and comes back. Gives the id of the guest's boot.
fn lives_through_both_tiers(vm: &SmallGuestVm) -> String {
    let mut client = vm.connect();
    client.talk("hello from outside");
    let (boot, count) = (client.boot.clone(), client.count);
    let awake = vm.status();
    assert_eq!((awake.state, awake.paused), (VmState::Running, Some(false)));

    vm.hibernate();
    let asleep = vm.status();
    assert_eq!(
        (asleep.state, asleep.pid, asleep.paused),
        (VmState::Hibernated, awake.pid, Some(true))
    );
    let before = vm.log().len();
    let mut second = vm.connect();
    second.talk("woken");
    client.talk("and the one before");
    // In a slow boot the supervisor looks more than once, and a look may be heard late.
    assert!(second.boot == boot && second.count > count, "{}", vm.log());
    let status = vm.status();
    assert_eq!((status.state, status.pid), (VmState::Running, awake.pid));
    assert_eq!(status.last_wake.unwrap().reason, "ssh");
    clock_is_set(vm, before);

    let count = second.count;
    drop((client, second));
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    let released = vm.status();
    assert_eq!(
        (released.state, released.pid, released.paused),
        (VmState::Released, None, Some(true))
    );
    assert!(!is_alive(awake.pid.unwrap()));
    let before = vm.log().len();
    let mut third = vm.connect();
    third.talk("back");
    assert!(third.boot == boot && third.count > count, "{}", vm.log());
    clock_is_set(vm, before);
    let status = vm.status();
    assert_eq!((status.state, status.problem), (VmState::Running, None));
    assert_ne!(status.pid, awake.pid);
    boot
}

/// What the guest said at its start about how its processors idle.
fn idle_driver(vm: &SmallGuestVm) -> String {
    let said = fs::read_to_string(vm.dir.file(StateFile::SerialLog)).unwrap();
    let driver = said.lines().find_map(|line| {
        line.trim()
            .strip_prefix("small guest: its processors idle by ")
    });
    driver.unwrap_or_else(|| panic!("{said}")).to_owned()
}

/// A device tree with idle states for the machine that runs.
fn with_idle_states(vm: &SmallGuestVm) -> PathBuf {
    let record = fs::read(vm.dir.file(StateFile::Machine)).unwrap();
    let mut record: Value = serde_json::from_slice(&record).unwrap();
    let spec: MachineSpec = serde_json::from_value(record["spec"].take()).unwrap();
    assert_eq!(spec.device_tree, None);
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let cache = vm.place.path().join("trees");
    let tree = runtime.block_on(prepare(&spec, IdleStatesChoice::Always, &cache));
    tree.unwrap().unwrap()
}
