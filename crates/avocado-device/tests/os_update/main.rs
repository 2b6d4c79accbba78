//! Updates of the operating system, with the real programs for a U-Boot environment where one is used.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod board;
mod disks;
mod efi;
mod firmware;
mod health;
mod labels;
mod loaders;
#[path = "../common/namespace.rs"]
mod namespace;
mod reboot;
mod streaming;
mod trouble;
#[path = "../common/world.rs"]
mod world;

use std::fs;

use avocado_device::{Activation, Cancel, FailedUpdate, RuntimeSource};
use avocado_events::{Silent, StepStatus};
use serde_json::json;

use common::{Events, manifest_file};

use board::{Board, TestBundle, has_uboot_tools};

/// The U-Boot board, if its programs are here.
fn board(test: &str) -> Option<Board> {
    has_uboot_tools(test).then(|| {
        let board = Board::new();
        board.set(&[("avocado_boot_slot", "a"), ("other", "stays = here")]);
        board
    })
}

#[test]
fn a_device_goes_from_slot_to_slot() {
    let Some(mut board) = board("a_device_goes_from_slot_to_slot") else {
        return;
    };
    let slots = [("b", "a"), ("a", "b"), ("b", "a")];
    for (number, (target, previous)) in slots.into_iter().enumerate() {
        let build = format!("build{number}");
        let manifest = board.add(&build, &TestBundle::new(&build));
        let before = board.active();
        let pending = board.writes(&manifest);
        assert_eq!(pending.previous_slot.as_deref(), Some(previous));
        assert_eq!(board.get("avocado_boot_slot"), target);
        let arch = std::env::consts::ARCH;
        assert_eq!(board.get("avocado_platform"), format!("testboard/{arch}"));
        assert_eq!(board.get("other"), "stays = here");
        let rootfs = board.build_in(&format!("rootfs-{target}"));
        assert_eq!(rootfs, format!("AVOCADO_OS_BUILD_ID={build}\n"));
        // Before the reboot nothing is decided, whatever the environment says.
        let waiting = board.store();
        for _ in 0..2 {
            board.device().merge(&Silent).unwrap();
            board.device().refresh(&Silent).unwrap();
            assert_eq!(board.store(), waiting);
        }
        assert_eq!(
            (board.active(), board.get("avocado_boot_slot")),
            (before, target.into())
        );
        // Asked for again it is told again, and nothing is written anew.
        fs::write(board.at("initramfs-build-id"), "other").unwrap();
        board.writes(&manifest);
        board.starts(target);
        board.device().merge(&Silent).unwrap();
        assert_eq!(board.active(), Some(build.clone()));
        assert!(!board.waits());
        assert_eq!(board.get("avocado_boot_slot"), target);
        // And stays so.
        board.starts(target);
        board.device().refresh(&Silent).unwrap();
        let again = board
            .device()
            .activate(manifest.id.as_str(), &Silent)
            .unwrap();
        assert!(matches!(again, Activation::Active(_)));
    }
}

/// What was merged before the update has proven itself, as in the initial RAM file system, was merged for
/// another root.
#[test]
fn the_merge_that_keeps_an_update_is_done_anew() {
    let Some(mut board) = board("the_merge_that_keeps_an_update_is_done_anew") else {
        return;
    };
    let events = Events::default();
    let skipped = || {
        let all = events.take().into_iter();
        let steps: Vec<_> = all
            .filter(|e| e.stage == "merge")
            .filter_map(|e| e.status)
            .collect();
        assert!(!steps.is_empty());
        steps.contains(&StepStatus::Skipped)
    };
    let manifest = board.add("1", &TestBundle::new("new"));
    board.writes(&manifest);
    // Nothing is to be merged, before and after: whoever looks only at that has nothing to do.
    let marker = board.paths.base.join("pending-update.json");
    let mut pending: serde_json::Value =
        serde_json::from_slice(&fs::read(&marker).unwrap()).unwrap();
    pending["runtime_id"] = json!(null);
    fs::write(&marker, pending.to_string()).unwrap();
    board.device().merge(&events).unwrap();
    assert!(skipped());
    board.starts("b");
    board.device().merge(&events).unwrap();
    assert!(!board.waits());
    assert!(!skipped());
    board.device().merge(&events).unwrap();
    assert!(skipped());
}

fn failed(board: &Board) -> Option<FailedUpdate> {
    board.device().status().unwrap().failed_update
}

#[test]
fn what_is_not_what_was_written_goes_back() {
    for what in ["os", "initramfs", "slot", "nothing"] {
        let Some(mut board) = board("what_is_not_what_was_written_goes_back") else {
            return;
        };
        let old = board.add("1", &TestBundle::new("old"));
        board.starts("a");
        fs::write(board.at("initramfs-build-id"), "init-old").unwrap();
        board.device().activate(old.id.as_str(), &Silent).unwrap();
        let new = board.add("2", &TestBundle::new("new"));
        board.writes(&new);
        board.starts(if what == "slot" { "a" } else { "b" });
        let why = match what {
            "os" => {
                fs::write(&board.paths.os_release[0], "AVOCADO_OS_BUILD_ID=third\n").unwrap();
                "AVOCADO_OS_BUILD_ID=third, and new was written"
            }
            "initramfs" => {
                fs::write(board.at("initramfs-build-id"), "init-third").unwrap();
                "the initramfs that was started says AVOCADO_OS_BUILD_ID=init-third"
            }
            // The environment says b still: a boot loader that fell back did not write it.
            "slot" => "AVOCADO_OS_BUILD_ID=old, and new was written",
            _ => {
                fs::write(&board.paths.os_release[0], "ID=x\n").unwrap();
                "has no AVOCADO_OS_BUILD_ID"
            }
        };
        board.device().merge(&Silent).unwrap();
        assert_eq!(board.active().as_deref(), Some("1"), "{what}");
        assert!(!board.waits());
        assert_eq!(board.get("avocado_boot_slot"), "a");
        let told = failed(&board).unwrap();
        assert!(told.why.contains(why), "{what}: {}", told.why);
        assert_eq!(told.runtime_id, Some(new.id.clone()));
        // What runs may be what failed: nothing is written before it is started again.
        let problems = board.refuses_before_writing(&new);
        assert!(
            problems.iter().any(|p| p.contains("reboot it first")),
            "{problems:?}"
        );
        board.starts("a");
        board.device().merge(&Silent).unwrap();
        assert!(failed(&board).is_some());
        // It can be tried again, and then the old failure is none any more.
        board.writes(&new);
        assert!(failed(&board).is_none());
        board.starts("b");
        board.device().merge(&Silent).unwrap();
        assert_eq!(board.active().as_deref(), Some("2"), "{what}");
    }
}

#[test]
fn everything_is_looked_at_before_the_first_write() {
    let plain = || TestBundle::new("new");
    let rootfs = "/update/artifacts/1";
    let mut truncated = plain();
    truncated.files[1].1.pop();
    let mut missing = plain();
    missing.files.pop();
    let mut large = plain();
    large.files[1].1 = vec![1; board::PARTITION + 1];
    let digest = avocado_manifest::Digest::of(&large.files[1].1);
    let large = large.with(&format!("{rootfs}/sha256"), json!(digest));
    let mut second = plain();
    second.files.insert(0, ("other".into(), Vec::new()));
    let no_program =
        json!([{"type": "command", "command": ["/nonexistent/switch", "{inactive_slot}"]}]);
    let layout = json!({"device": "/nonexistent/disk", "partitions": []});
    let overlapping = json!({"device": "DISK", "partitions": [
        {"name": "x", "offset": 4096, "size": 65536}, {"name": "y", "offset": 8192, "size": 4096}]});
    let at_start =
        json!({"device": "DISK", "partitions": [{"name": "x", "offset": 0, "size": 65536}]});
    let to_x = json!({"a": {"partition": "rootfs-a"}, "b": {"partition": "x"}});
    let targets = format!("{rootfs}/slot_targets");
    for (bundle, why) in [
        (truncated, "another digest"),
        (missing, "rootfs.img is missing"),
        (large, "the partition rootfs-b"),
        (
            plain().with("/update/artifacts/0/size", json!(1)),
            "boot.img has",
        ),
        (
            plain().with("/architecture", json!("riscv64")),
            "for the architecture riscv64",
        ),
        (
            plain().with("/platform", json!("other")),
            "for the platform other",
        ),
        (
            plain().with("/os_build_id", json!("third")),
            "its bundle has third",
        ),
        (
            plain().with("/os_build_id", json!("")),
            "does not say which it has",
        ),
        (
            plain().with("/update/strategy", json!("tegra-ab")),
            "cannot be used",
        ),
        (
            plain().with(
                "/update/slot_detection",
                json!({"type": "command", "command": ["echo", "r"]}),
            ),
            "`r` is neither `a` nor `b`",
        ),
        (
            plain().with("/update/slot_detection/var", json!("unset")),
            "`` is neither",
        ),
        (
            plain().with("/update/activate", no_program),
            "/nonexistent/switch is missing",
        ),
        (
            plain().with("/update/activate", json!([])),
            "what switches the boot loader",
        ),
        (
            plain().with(
                "/update/activate",
                json!([{"type": "uboot-env", "set": {"avocado_boot_slot": "a"}}]),
            ),
            "sets avocado_boot_slot to `a`",
        ),
        (
            plain().with(
                "/update/rollback",
                json!([{"type": "uboot-env", "set": {"avocado_boot_slot": "b"}}]),
            ),
            "sets avocado_boot_slot to `b`",
        ),
        (
            plain().with("/update/artifacts", json!([])),
            "nothing to write",
        ),
        (
            plain().with("/update", json!(null)),
            "does not say how it is written",
        ),
        (plain().with(&targets, to_x.clone()), "no partition x"),
        (
            plain().with(&targets, to_x.clone()).with("/layout", layout),
            "no partition x",
        ),
        (
            plain()
                .with(&targets, to_x.clone())
                .with("/layout", overlapping),
            "x of the bundle's layout",
        ),
        (
            plain().with(&targets, to_x).with("/layout", at_start),
            "would lie over the partition table",
        ),
    ] {
        let Some(mut board) = board("everything_is_looked_at_before_the_first_write") else {
            return;
        };
        board.config.platform = Some("testboard".parse().unwrap());
        let disk = board.at("disk");
        fs::write(&disk, vec![0; 1 << 20]).unwrap();
        let mut bundle = bundle;
        let description = bundle
            .description
            .to_string()
            .replace("DISK", disk.to_str().unwrap());
        bundle.description = serde_json::from_str(&description).unwrap();
        let manifest = board.add("1", &bundle);
        // What the pool remembers of the image is no write of the update.
        let _ = board.device().activate(manifest.id.as_str(), &Silent);
        let problems = board.refuses_before_writing(&manifest);
        assert!(
            problems.iter().any(|p| p.contains(why)),
            "{why}: {problems:?}"
        );
        assert_eq!(board.get("avocado_boot_slot"), "a");
    }
}

#[test]
fn all_that_is_in_the_way_is_told_at_once() {
    let Some(mut board) = board("all_that_is_in_the_way_is_told_at_once") else {
        return;
    };
    board.take_partition("boot-b");
    let bundle = TestBundle::new("new")
        .with("/architecture", json!("riscv64"))
        .with(
            "/update/commit",
            json!([{"type": "command", "command": ["/nonexistent/commit"]}]),
        );
    let manifest = board.add("1", &bundle);
    let problems = board.refuses_before_writing(&manifest);
    // A plan tells the same, and where everything would go.
    let file = manifest_file(board.dir.path(), &manifest);
    let source = RuntimeSource::Manifest(&file);
    let plan = board.device().plan(source, &Cancel::new(), &Silent);
    let plan = plan.unwrap().os_update.unwrap();
    assert_eq!(plan.problems, problems);
    assert_eq!(plan.slot.as_deref(), Some("b"));
    assert!(!plan.problems.iter().any(|p| p.contains("copies")));
    let config = fs::read_to_string(board.at("fw_env.config")).unwrap();
    let one = format!("# the only one\n\n{}\n", config.lines().next().unwrap());
    board.paths.os.uboot_environment = board.at("one.config");
    fs::write(board.at("one.config"), one).unwrap();
    let again = board.device().plan(source, &Cancel::new(), &Silent);
    let problems_of_one = again.unwrap().os_update.unwrap().problems;
    assert!(
        problems_of_one
            .iter()
            .any(|p| p.contains("1 of the two copies")),
        "{problems_of_one:?}"
    );
    let places = plan.artifacts.iter();
    let places: Vec<_> = places
        .map(|a| (a.partition.as_str(), a.partition_bytes))
        .collect();
    let size = Some(board::PARTITION as u64);
    assert_eq!(places, [("boot-b", None), ("rootfs-b", size)]);
    for part in ["riscv64", "boot-b", "/nonexistent/commit"] {
        assert!(
            problems.iter().any(|p| p.contains(part)),
            "{part}: {problems:?}"
        );
    }
}

#[test]
fn another_runtime_takes_the_place_of_one_that_waits() {
    let Some(mut board) = board("another_runtime_takes_the_place_of_one_that_waits") else {
        return;
    };
    fs::write(board.at("initramfs-build-id"), "init-old").unwrap();
    let mine = board.add("1", &TestBundle::new("old"));
    board.device().activate(mine.id.as_str(), &Silent).unwrap();
    let (second, third) = (
        board.add("2", &TestBundle::new("second")),
        board.add("3", &TestBundle::new("third")),
    );
    board.writes(&second);
    // Another OS is written to the same slot: the one that runs is a still, whatever is armed.
    let pending = board.writes(&third);
    assert_eq!(pending.previous_slot.as_deref(), Some("a"));
    assert_eq!(board.build_in("rootfs-b"), "AVOCADO_OS_BUILD_ID=third\n");
    // The runtime of the OS that runs was chosen last.
    board.device().activate(mine.id.as_str(), &Silent).unwrap();
    assert!(!board.waits());
    assert_eq!(board.get("avocado_boot_slot"), "a");
    // A runtime that waits is given up when it is removed.
    board.writes(&second);
    board.device().remove(second.id.as_str(), &Silent).unwrap();
    assert_eq!(
        (board.waits(), board.get("avocado_boot_slot")),
        (false, "a".into())
    );
    board.writes(&third);
    board.starts("b");
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.active().as_deref(), Some("3"));
}

#[test]
fn an_os_that_does_not_say_its_build_is_not_taken_for_the_right_one() {
    let Some(mut board) = board("an_os_that_does_not_say_its_build_is_not_taken_for_the_right_one")
    else {
        return;
    };
    fs::write(&board.paths.os_release[0], "ID=x\n").unwrap();
    let manifest = board.add("1", &TestBundle::new("old"));
    board.writes(&manifest);
    board.starts("b");
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.active().as_deref(), Some("1"));
    // The same OS with another initramfs is another one.
    fs::write(board.at("initramfs-build-id"), "init-other").unwrap();
    board.writes(&manifest);
    // One that says nothing is not compared.
    board.starts("a");
    board.device().merge(&Silent).unwrap();
    fs::remove_file(board.at("initramfs-build-id")).unwrap();
    let again = board
        .device()
        .activate(manifest.id.as_str(), &Silent)
        .unwrap();
    assert!(matches!(again, Activation::Active(_)));
}

#[test]
fn an_initial_ram_file_system_decides_nothing() {
    let Some(mut board) = board("an_initial_ram_file_system_decides_nothing") else {
        return;
    };
    let manifest = board.add("1", &TestBundle::new("new"));
    board.writes(&manifest);
    board.starts("b");
    fs::remove_file(board.at("initramfs-build-id")).unwrap();
    fs::write(
        &board.paths.initrd_release,
        "AVOCADO_OS_BUILD_ID=init-new\n",
    )
    .unwrap();
    let before = board.store();
    // Its own os-release is looked for below /sysroot, where this machine has none.
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.store(), before);
    // What it says of itself is kept for the system that it starts.
    fs::remove_file(&board.paths.initrd_release).unwrap();
    assert_eq!(
        fs::read_to_string(board.at("initramfs-build-id")).unwrap(),
        "init-new"
    );
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.active().as_deref(), Some("1"));
}

#[test]
fn an_update_of_an_older_agent_is_proven_all_the_same() {
    for (slot, done) in [("b", true), ("a", false)] {
        let Some(mut board) = board("an_update_of_an_older_agent_is_proven_all_the_same") else {
            return;
        };
        let manifest = board.add("1", &TestBundle::new("new"));
        board.writes(&manifest);
        // As it writes it: without the boot and without the bundle.
        let marker = board.paths.base.join("pending-update.json");
        let mut pending: serde_json::Value =
            serde_json::from_slice(&fs::read(&marker).unwrap()).unwrap();
        let fields = pending.as_object_mut().unwrap();
        assert!(fields.remove("boot_id").is_some() && fields.remove("bundle").is_some());
        fs::write(&marker, pending.to_string()).unwrap();
        board.set(&[("avocado_boot_slot", slot)]);
        board.starts(slot);
        board.device().merge(&Silent).unwrap();
        // That it was not started since cannot be told from that it was started from the same slot.
        assert_eq!(board.waits(), !done, "{slot}");
        assert_eq!(board.active().is_some(), done);
    }
}

#[test]
fn partitions_are_found_by_their_place() {
    let Some(board) = board("partitions_are_found_by_their_place") else {
        return;
    };
    board.take_partition("rootfs-b");
    let disk = board.at("disk");
    fs::write(&disk, vec![9; 1 << 20]).unwrap();
    let layout = json!({"device": disk, "partitions": [
        {"name": "rootfs-a", "offset": 64, "offset_unit": "kibibytes", "size": 64, "size_unit": "KiB"},
        {"name": "rootfs-b", "size": 64, "size_unit": "kibibytes"},
        {"name": "var", "size": 1, "size_unit": "kibibytes", "expand": "true"},
    ]});
    let manifest = board.add("1", &TestBundle::new("new").with("/layout", layout));
    board.writes(&manifest);
    let bytes = fs::read(&disk).unwrap();
    let (start, rootfs) = (128 << 10, board::rootfs("new"));
    assert_eq!(bytes[start..start + rootfs.len()], rootfs);
    let others = bytes[..start].iter().chain(&bytes[start + rootfs.len()..]);
    assert!(others.into_iter().all(|byte| *byte == 9));
    assert_eq!(bytes.len(), 1 << 20);
}
