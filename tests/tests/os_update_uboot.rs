//! A machine that U-Boot starts, with the variables of RAUC, and that updates its OS.

mod common;

use avocado_testbed::board::running;
use avocado_testbed::disk_guest::{self, DiskFirmware, DiskGuest};
use avocado_testbed::keys::SshKeys;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{TestNeed, skip_without};
use avocado_testbed::uboot_board::{self, UbootBoard};
use common::os_update::{activate, active, add, back_on_a, committed};
use common::{Sandbox, cannot_build};

/// Builds another OS, brings it to the guest and activates it; the id of its runtime.
fn update(
    guest: &DiskGuest,
    project: &TestProject,
    board: UbootBoard<'_>,
    release: &str,
    arguments: &str,
) -> String {
    board.release(release, arguments).unwrap();
    project.avocado(&["build", "--no-var"]).ok().unwrap();
    add(guest, project);
    let id = project.built().unwrap();
    activate(guest, &id);
    id
}

/// The variables of the boot loader.
fn variables(guest: &DiskGuest) -> Vec<String> {
    let said = guest.run("fw_printenv").unwrap();
    let mut lines: Vec<_> = said.lines().map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

/// The slots that U-Boot has started until now, with its variables then.
fn starts(guest: &DiskGuest) -> Vec<String> {
    let log = guest.log();
    let lines = log
        .lines()
        .filter_map(|line| line.trim().strip_prefix("starting "));
    lines
        .filter(|line| line.contains("BOOT_ORDER"))
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn a_board_with_u_boot_goes_from_slot_to_slot_and_back_from_what_does_not_run() {
    let name = "a_board_with_u_boot_goes_from_slot_to_slot_and_back_from_what_does_not_run";
    let tools = ["mcopy", "sfdisk"].map(TestNeed::Tool);
    let firmware = DiskFirmware::Uboot;
    if cannot_build(name)
        || skip_without(name, &tools)
        || skip_without(name, &uboot_board::needs())
        || skip_without(name, &disk_guest::needs(firmware))
    {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let work = sandbox.directory.path();
    let keys = SshKeys::create(&work.join("ssh")).unwrap();
    let board = UbootBoard::first(project, &keys).unwrap();
    let disk = work.join("disk.img");
    let out = disk.to_str().unwrap();
    project
        .avocado(&["provision", "-r", "dev", "--out", out])
        .ok()
        .unwrap();
    let first = project.built().unwrap();
    let guest = DiskGuest::boot(&work.join("guest"), firmware, &disk, keys).unwrap();
    assert_eq!(running(&guest).unwrap(), ("a".into(), "1".into()));
    assert_eq!(active(&guest), first);
    let begin = ["BOOT_A_LEFT=2", "BOOT_B_LEFT=3", "BOOT_ORDER=A B"];
    assert_eq!(variables(&guest), begin);

    // One whose init is not there: the kernel panics, three times.
    update(&guest, project, board, "broken", " init=/nothing");
    let before = starts(&guest).len();
    guest.reboot().unwrap();
    let since: Vec<_> = starts(&guest).split_off(before);
    let expected = [
        "b (BOOT_ORDER=B A BOOT_A_LEFT=3 BOOT_B_LEFT=2)",
        "b (BOOT_ORDER=B A BOOT_A_LEFT=3 BOOT_B_LEFT=1)",
        "b (BOOT_ORDER=B A BOOT_A_LEFT=3 BOOT_B_LEFT=0)",
        "a (BOOT_ORDER=B A BOOT_A_LEFT=2 BOOT_B_LEFT=0)",
    ];
    assert_eq!(since, expected);
    let status = back_on_a(&guest, &first);
    assert!(status.contains("FAILED"), "{status}");
    assert!(variables(&guest).contains(&"BOOT_ORDER=A".to_owned()));

    // One whose initramfs hangs: the watchdog ends it. Once will do.
    update(&guest, project, board, "hangs", " rdinit=/usr/bin/cat");
    guest.run("fw_setenv BOOT_B_LEFT 1").unwrap();
    let before = starts(&guest).len();
    guest.reboot().unwrap();
    let since: Vec<_> = starts(&guest).split_off(before);
    let expected = [
        "b (BOOT_ORDER=B A BOOT_A_LEFT=3 BOOT_B_LEFT=0)",
        "a (BOOT_ORDER=B A BOOT_A_LEFT=2 BOOT_B_LEFT=0)",
    ];
    assert_eq!(since, expected);
    back_on_a(&guest, &first);

    // One that runs, and is another one than was written.
    update(&guest, project, board, "overwritten", "");
    guest
        .run("cat /dev/disk/by-partlabel/rootfs-a >/dev/disk/by-partlabel/rootfs-b && sync")
        .unwrap();
    guest.reboot().unwrap();
    let status = back_on_a(&guest, &first);
    let told = "the OS that was started says AVOCADO_OS_BUILD_ID=";
    assert!(status.contains(told), "{status}");

    // To the other slot, which U-Boot then starts without being told to.
    let second = update(&guest, project, board, "2", "");
    guest.reboot().unwrap();
    assert_eq!(running(&guest).unwrap(), ("b".into(), "2".into()));
    committed(&guest);
    assert_eq!(active(&guest), second);
    assert!(variables(&guest).contains(&"BOOT_ORDER=B".to_owned()));
    guest.reboot().unwrap();
    assert_eq!(running(&guest).unwrap(), ("b".into(), "2".into()));
    assert_eq!(active(&guest), second);

    // And back, from what is on the device.
    activate(&guest, &first);
    guest.reboot().unwrap();
    committed(&guest);
    assert_eq!(running(&guest).unwrap(), ("a".into(), "1".into()));
    assert_eq!(active(&guest), first);
}
