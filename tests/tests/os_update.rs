//! A machine that boots a disk which `avocado provision` made, and updates its OS.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_testbed::disk_guest::{self, DiskGuest};
use avocado_testbed::keys::SshKeys;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{TestNeed, skip_without};
use common::board::on_a_board;
use common::{Sandbox, cannot_build};

/// What runs: the slot, by the partition that is the root, and what the OS says of itself.
fn running(guest: &DiskGuest) -> (String, String) {
    let is_root = |slot: &str| {
        let partition = format!("/dev/disk/by-partlabel/rootfs-{slot}");
        let same = format!("findmnt -n -o SOURCE /; readlink -f {partition}");
        let said = guest.run(&same).unwrap();
        let mut lines = said.lines();
        lines.next() == lines.next()
    };
    let slots: Vec<&str> = ["a", "b"]
        .into_iter()
        .filter(|slot| is_root(slot))
        .collect();
    let text = guest
        .run("sed -n 's/^release=//p' /etc/board.conf")
        .unwrap();
    (slots.join(" and "), text.trim().to_owned())
}

/// The id of the runtime that was built.
fn built(project: &TestProject) -> String {
    let manifest = project.read(".avocado/state/qemux86-64/output/runtimes/dev/manifest.json");
    let manifest: serde_json::Value = serde_json::from_str(&manifest.unwrap()).unwrap();
    manifest["id"].as_str().unwrap().to_owned()
}

fn active(guest: &DiskGuest) -> String {
    let link = guest.run("readlink /var/lib/avocado/active").unwrap();
    link.trim().trim_start_matches("runtimes/").to_owned()
}

/// Builds another OS, which says this of itself and is started by this entry; the id of its runtime.
fn build(project: &TestProject, release: &str, entry: &str) -> String {
    project
        .write(
            "board/rootfs/etc/board.conf",
            &format!("release={release}\n"),
        )
        .unwrap();
    project.write("board/files/entry.conf", entry).unwrap();
    project.avocado(&["build", "--no-var"]).ok().unwrap();
    built(project)
}

/// Brings the runtime that was built to the guest, and its OS to the slot that does not run.
fn update(guest: &DiskGuest, project: &TestProject) {
    let repository = project.state().join("output/runtimes/dev/repository");
    let server = TestServer::start(ServeOptions::new(&repository)).unwrap();
    let url = server.url().replace("127.0.0.1", DiskGuest::HOST);
    guest
        .run(&format!("avocadoctl runtime add --url {url}"))
        .unwrap();
    activate(guest, &built(project));
}

fn activate(guest: &DiskGuest, id: &str) {
    let before = active(guest);
    guest
        .run(&format!("avocadoctl runtime activate {id}"))
        .unwrap();
    assert_eq!(active(guest), before, "an OS has to prove itself");
    let status = guest.run("avocadoctl status").unwrap();
    assert!(status.contains("reboot required"), "{status}");
}

/// Puts a health check into the OS that is built next.
fn put_check(project: &TestProject, body: &str) {
    let check = "board/rootfs/etc/avocado/health.d/50-check";
    project
        .write(check, &format!("#!/bin/sh\n{body}\n"))
        .unwrap();
    let path = project.directory().join(check);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Waits until a trial has ended well.
fn committed(guest: &DiskGuest) {
    let gone = "test ! -e /var/lib/avocado/pending-update.json";
    guest
        .until_succeeds("the OS to be committed", gone)
        .unwrap();
}

/// Waits until the machine is back on a by itself; what it says of the update.
fn back_on_a(guest: &DiskGuest, first: &str) -> String {
    let is_back =
        "test \"$(findmnt -n -o SOURCE /)\" = \"$(readlink -f /dev/disk/by-partlabel/rootfs-a)\" &&
        test ! -e /var/lib/avocado/pending-update.json && avocadoctl status";
    let status = guest
        .until_succeeds("the machine to go back", is_back)
        .unwrap();
    assert!(status.contains("FAILED"), "{status}");
    assert_eq!(running(guest), ("a".into(), "1".into()));
    assert_eq!(active(guest), first);
    status
}

#[test]
fn a_machine_goes_from_slot_to_slot_and_back_from_what_does_not_run() {
    let name = "a_machine_goes_from_slot_to_slot_and_back_from_what_does_not_run";
    let tools = ["mkfs.fat", "mcopy", "sfdisk"].map(TestNeed::Tool);
    if cannot_build(name) || skip_without(name, &tools) || skip_without(name, &disk_guest::needs())
    {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let work = sandbox.directory.path();
    let keys = SshKeys::create(&work.join("ssh")).unwrap();
    on_a_board(project);
    let yaml = project.read("avocado.yaml").unwrap();
    let yaml = yaml
        .replace(
            "    extensions: [hello",
            "    stone_include_paths: [board/files]\n    extensions: [hello",
        )
        .replace(
            "  filesystem: erofs-lz4\n  permissions: dev\n",
            "  filesystem: erofs-lz4\n  permissions: dev\n  overlay: board/rootfs\n",
        );
    project.write("avocado.yaml", &yaml).unwrap();
    project
        .write("var/authorized_keys.d/root", &keys.public)
        .unwrap();
    project
        .write("board/rootfs/etc/board.conf", "release=1\n")
        .unwrap();
    let entry = fs::read_to_string(
        avocado_testbed::tools::source_root()
            .join("examples/feed/packages/avocado-bsp/stone/entry.conf"),
    )
    .unwrap();
    // Emulated, and beside all else that this machine does, all is there later than on a board.
    let patient =
        " systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900 quiet";
    let entry = entry.replace(" quiet", patient);
    project.write("board/files/entry.conf", &entry).unwrap();
    let disk = work.join("disk.img");
    let out = disk.to_str().unwrap();
    project
        .avocado(&["provision", "-r", "dev", "--out", out])
        .ok()
        .unwrap();
    let first = built(project);

    let guest = DiskGuest::boot(&work.join("guest"), &disk, keys).unwrap();
    assert_eq!(running(&guest), ("a".into(), "1".into()));
    assert_eq!(active(&guest), first);
    assert_eq!(
        guest.run("systemctl --failed --no-legend --plain").unwrap(),
        ""
    );
    let room = guest.run("df --output=size -B1M /var | tail -n 1").unwrap();
    assert!(
        room.trim().parse::<u32>().unwrap() > 900,
        "/var takes its partition: {room}"
    );

    // One whose init is not there: the kernel panics, and the firmware starts what it started before.
    build(
        project,
        "broken",
        &entry.replace(" quiet", " init=/nothing quiet"),
    );
    update(&guest, project);
    guest.reboot().unwrap();
    assert_eq!(running(&guest), ("a".into(), "1".into()));
    let status = guest.run("avocadoctl status").unwrap();
    assert!(status.contains("FAILED"), "{status}");
    assert_eq!(active(&guest), first);

    // One that comes up and is not well.
    put_check(project, "echo the network is not there >&2; exit 3");
    build(project, "sick", &entry);
    update(&guest, project);
    guest.reboot().unwrap();
    let status = back_on_a(&guest, &first);
    for part in [
        "health.d/50-check failed",
        "exit status: 3",
        "the network is not there",
    ] {
        assert!(status.contains(part), "{part}: {status}");
    }

    // One that never says whether it is.
    put_check(project, "exec sleep 10000");
    let config = "board/rootfs/etc/avocado/avocadoctl.conf";
    let text = "[avocado.update]\nhealth_deadline_secs = 120\n";
    project.write(config, text).unwrap();
    build(project, "hangs", &entry);
    update(&guest, project);
    guest.reboot().unwrap();
    let status = back_on_a(&guest, &first);
    assert!(status.contains("when the 120 seconds"), "{status}");

    // To the other slot, which the firmware then starts without being told to.
    fs::remove_file(project.directory().join(config)).unwrap();
    put_check(
        project,
        "systemctl is-active boot-complete.target >/var/asked",
    );
    let second = build(project, "2", &entry);
    update(&guest, project);
    guest.reboot().unwrap();
    assert_eq!(running(&guest), ("b".into(), "2".into()));
    committed(&guest);
    assert_eq!(guest.run("cat /var/asked").unwrap(), "active\n");
    assert_eq!(active(&guest), second);
    guest.reboot().unwrap();
    assert_eq!(running(&guest), ("b".into(), "2".into()));
    assert_eq!(active(&guest), second);
    let menu = guest.run("efibootmgr").unwrap();
    assert!(!menu.contains("BootNext"), "{menu}");

    // And back, from what is on the device.
    activate(&guest, &first);
    guest.reboot().unwrap();
    committed(&guest);
    assert_eq!(running(&guest), ("a".into(), "1".into()));
    assert_eq!(active(&guest), first);

    let menu = guest.run("efibootmgr").unwrap();
    let order = menu
        .lines()
        .find_map(|line| line.strip_prefix("BootOrder: "))
        .unwrap();
    let number = order.split(',').next().unwrap();
    assert!(
        menu.lines()
            .any(|line| line.starts_with(&format!("Boot{number}* avocado-a"))),
        "{menu}"
    );
}
