//! A machine that boots a disk which `avocado provision` made, and updates its OS.

mod common;

use avocado_testbed::board::{BoardFiles, on_a_board, running};
use avocado_testbed::disk_guest::{self, DiskFirmware, DiskGuest};
use avocado_testbed::keys::SshKeys;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{TestNeed, skip_without};
use common::os_update::{activate, active, add, back_on_a, committed};
use common::{Sandbox, cannot_build};

/// Builds another OS, which says this of itself and whose kernel gets these arguments; the id of its runtime.
fn build(project: &TestProject, files: &BoardFiles<'_>, release: &str, arguments: &str) -> String {
    files.release(release, arguments).unwrap();
    project.avocado(&["build", "--no-var"]).ok().unwrap();
    project.built().unwrap()
}

/// The OS is written while it is downloaded.
const STREAMS: &str = "[avocado.update]\nstream_os_to_partition = true\n";

/// Brings the runtime that was built to the guest, and its OS to the slot that does not run and nowhere
/// else.
fn update(guest: &DiskGuest, project: &TestProject) {
    add(guest, project);
    let manifest = project.read(".avocado/state/qemux86-64/output/runtimes/dev/manifest.json");
    let manifest: serde_json::Value = serde_json::from_str(&manifest.unwrap()).unwrap();
    let bundle = manifest["os_bundle"]["image_id"].as_str().unwrap();
    let pool = guest.run("ls /var/lib/avocado/images").unwrap();
    assert!(pool.contains(&format!("{bundle}.raw.chunks")), "{pool}");
    assert!(!pool.contains(&format!("{bundle}.raw\n")), "{pool}");
    activate(guest, &project.built().unwrap());
}

/// The numbers of the entries of the boot menu with this label.
fn entries(guest: &DiskGuest, label: &str) -> Vec<String> {
    let menu = guest.run("efibootmgr").unwrap();
    let numbers = menu.lines().filter_map(|line| {
        let (number, rest) = line.strip_prefix("Boot")?.split_at_checked(4)?;
        let name = rest.get(2..)?.split_whitespace().next()?;
        (name == label).then(|| number.to_owned())
    });
    numbers.collect()
}

#[test]
fn a_machine_goes_from_slot_to_slot_and_back_from_what_does_not_run() {
    let name = "a_machine_goes_from_slot_to_slot_and_back_from_what_does_not_run";
    let tools = ["mkfs.fat", "mcopy", "sfdisk"].map(TestNeed::Tool);
    if cannot_build(name)
        || skip_without(name, &tools)
        || skip_without(name, &disk_guest::needs(DiskFirmware::Uefi))
    {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let work = sandbox.directory.path();
    let keys = SshKeys::create(&work.join("ssh")).unwrap();
    on_a_board(project).unwrap();
    let files = BoardFiles::first(project, &keys).unwrap();
    let config = "board/rootfs/etc/avocado/avocadoctl.conf";
    project.write(config, STREAMS).unwrap();
    let disk = work.join("disk.img");
    let out = disk.to_str().unwrap();
    project
        .avocado(&["provision", "-r", "dev", "--out", out])
        .ok()
        .unwrap();
    let first = project.built().unwrap();

    let guest = DiskGuest::boot(&work.join("guest"), DiskFirmware::Uefi, &disk, keys).unwrap();
    assert_eq!(running(&guest).unwrap(), ("a".into(), "1".into()));
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
    build(project, &files, "broken", " init=/nothing");
    update(&guest, project);
    guest.reboot().unwrap();
    assert_eq!(running(&guest).unwrap(), ("a".into(), "1".into()));
    let status = guest.run("avocadoctl status").unwrap();
    assert!(status.contains("FAILED"), "{status}");
    assert_eq!(active(&guest), first);

    // One that comes up and is not well.
    files
        .check("echo the network is not there >&2; exit 3")
        .unwrap();
    build(project, &files, "sick", "");
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
    files.check("exec sleep 10000").unwrap();
    let text = format!("{STREAMS}health_deadline_secs = 120\n");
    project.write(config, &text).unwrap();
    build(project, &files, "hangs", "");
    update(&guest, project);
    guest.reboot().unwrap();
    let status = back_on_a(&guest, &first);
    assert!(status.contains("when the 120 seconds"), "{status}");

    // To the other slot, which the firmware then starts without being told to.
    project.write(config, STREAMS).unwrap();
    files
        .check("systemctl is-active boot-complete.target >/var/asked")
        .unwrap();
    let second = build(project, &files, "2", "");
    // The firmware has dropped its entry, which is made again.
    let [number] = entries(&guest, "avocado-b").try_into().unwrap();
    guest
        .run(&format!(
            "efibootmgr --quiet --bootnum {number} --delete-bootnum"
        ))
        .unwrap();
    assert!(entries(&guest, "avocado-b").is_empty());
    update(&guest, project);
    assert_eq!(entries(&guest, "avocado-b").len(), 1);
    guest.reboot().unwrap();
    assert_eq!(running(&guest).unwrap(), ("b".into(), "2".into()));
    committed(&guest);
    assert_eq!(guest.run("cat /var/asked").unwrap(), "active\n");
    assert_eq!(active(&guest), second);
    guest.reboot().unwrap();
    assert_eq!(running(&guest).unwrap(), ("b".into(), "2".into()));
    assert_eq!(active(&guest), second);
    let menu = guest.run("efibootmgr").unwrap();
    assert!(!menu.contains("BootNext"), "{menu}");

    // And back, from what is on the device.
    activate(&guest, &first);
    guest.reboot().unwrap();
    committed(&guest);
    assert_eq!(running(&guest).unwrap(), ("a".into(), "1".into()));
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
