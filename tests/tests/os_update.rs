//! A machine that boots a disk which `avocado provision` made, and updates its OS.

mod common;

use std::fs;

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

    // To the other slot, which the firmware then starts without being told to.
    let second = build(project, "2", &entry);
    update(&guest, project);
    guest.reboot().unwrap();
    assert_eq!(running(&guest), ("b".into(), "2".into()));
    assert_eq!(active(&guest), second);
    let menu = guest.run("efibootmgr").unwrap();
    assert!(!menu.contains("BootNext"), "{menu}");

    // And back, from what is on the device.
    activate(&guest, &first);
    guest.reboot().unwrap();
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
