//! Boards with other boot loaders than the environment variable of the others.

use std::fs;

use avocado_events::Silent;
use serde_json::{Value, json};

use crate::board::{Board, TestBundle, has_uboot_tools};

pub(crate) fn bundle(build: &str, detection: Value, action: Value) -> TestBundle {
    let bundle = TestBundle::new(build)
        .with("/update/slot_detection", detection)
        .with("/update/activate", json!([action]));
    let mut bundle = bundle;
    let update = bundle.description["update"].as_object_mut().unwrap();
    update.remove("rollback");
    bundle
}

/// What a board with RAUC's script starts; it counts.
fn rauc_starts(board: &Board) -> String {
    loop {
        for name in board.get("BOOT_ORDER").split_whitespace() {
            let count = format!("BOOT_{name}_LEFT");
            let left: u32 = board.get(&count).parse().unwrap();
            if left > 0 {
                board.set(&[(&count, &(left - 1).to_string())]);
                return name.to_owned();
            }
        }
        board.set(&[("BOOT_a_LEFT", "3"), ("BOOT_b_LEFT", "3")]);
    }
}

#[test]
fn a_board_with_the_script_of_rauc_takes_updates() {
    if !has_uboot_tools("a_board_with_the_script_of_rauc_takes_updates") {
        return;
    }
    let names = json!({"type": "rauc-uboot", "bootnames": {"a": "a", "b": "b"}});
    let of = |build: &str| bundle(build, names.clone(), names.clone());
    let mut board = Board::new();
    board.set(&[
        ("BOOT_ORDER", "a b"),
        ("BOOT_a_LEFT", "3"),
        ("BOOT_b_LEFT", "3"),
    ]);
    let slot = rauc_starts(&board);
    board.starts(&slot);
    let first = board.add("1", &of("first"));
    board.writes(&first);
    assert_eq!(board.get("BOOT_ORDER"), "b a");
    let slot = rauc_starts(&board);
    assert_eq!(slot, "b");
    board.starts(&slot);
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.active().as_deref(), Some("1"));
    // Ten fast cuts of the power of a committed system change nothing.
    for _ in 0..10 {
        let slot = rauc_starts(&board);
        board.starts(&slot);
        assert_eq!(slot, "b");
    }
    board.device().merge(&Silent).unwrap();
    // A system that never comes up is tried three times.
    let second = board.add("2", &of("second"));
    board.writes(&second);
    for _ in 0..3 {
        assert_eq!(rauc_starts(&board), "a");
    }
    let slot = rauc_starts(&board);
    assert_eq!(slot, "b");
    board.starts(&slot);
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.active().as_deref(), Some("1"));
    assert!(!board.waits());
    let why = board.device().status().unwrap().failed_update.unwrap().why;
    assert!(why.contains("did not start the slot"), "{why}");
    assert_eq!(
        (board.get("BOOT_ORDER"), board.get("BOOT_a_LEFT")),
        ("b".into(), "0".into())
    );
}

#[test]
fn a_board_with_the_script_of_mender_takes_updates() {
    if !has_uboot_tools("a_board_with_the_script_of_mender_takes_updates") {
        return;
    }
    let numbers = json!({"type": "mender-uboot", "partitions": {"a": 2, "b": 3}});
    let of = |build: &str| bundle(build, numbers.clone(), numbers.clone());
    let mut board = Board::new();
    board.set(&[
        ("mender_boot_part", "2"),
        ("upgrade_available", "0"),
        ("bootcount", "0"),
    ]);
    let first = board.add("1", &of("first"));
    board.writes(&first);
    assert_eq!(board.get("mender_boot_part"), "3");
    assert_eq!(board.get("upgrade_available"), "1");
    board.starts("b");
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.active().as_deref(), Some("1"));
    assert_eq!(board.get("upgrade_available"), "0");
    assert_eq!(board.get("mender_boot_part"), "3");
    // One that does not come up: the script goes back by itself, and says so.
    let second = board.add("2", &of("second"));
    board.writes(&second);
    board.set(&[("mender_boot_part", "3"), ("upgrade_available", "0")]);
    board.starts("b");
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.active().as_deref(), Some("1"));
    assert!(!board.waits());
}

#[test]
fn a_raspberry_pi_tries_a_partition_once() {
    let numbers = json!({"a": 2, "b": 3});
    let detection = json!({"type": "rpi-tryboot", "boot_partitions": numbers});
    let of = |build: &str| {
        bundle(build, detection.clone(), detection.clone())
            .with("/update/strategy", json!("rpi-tryboot"))
    };
    let mut board = Board::new();
    let first = board.at("first");
    fs::create_dir_all(board.at("device-tree/chosen/bootloader")).unwrap();
    fs::create_dir(&first).unwrap();
    board.paths.os.mounted_boot = Some(first.clone());
    let (a, b) = (
        "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n",
        "[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=2\n",
    );
    let file = first.join("autoboot.txt");
    fs::write(&file, a).unwrap();
    let booted = board.at("device-tree/chosen/bootloader/partition");
    fs::write(&booted, [0, 0, 0, 2]).unwrap();
    let manifest = board.add("1", &of("first"));
    let pending = board.writes(&manifest);
    assert_eq!(pending.reboot_argument.as_deref(), Some("0 tryboot"));
    assert_eq!(fs::read_to_string(&file).unwrap(), a);
    // A reboot that does not ask for it starts what ran before.
    board.starts("a");
    board.device().merge(&Silent).unwrap();
    assert!(!board.waits());
    assert_eq!(board.active(), None);
    board.writes(&manifest);
    fs::write(&booted, [0, 0, 0, 3]).unwrap();
    board.starts("b");
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.active().as_deref(), Some("1"));
    assert_eq!(fs::read_to_string(&file).unwrap(), b);
}

#[test]
fn programs_of_the_board_are_called_with_the_slot() {
    let mut board = Board::new();
    let (state, log) = (board.at("state"), board.at("log"));
    fs::write(&state, "0").unwrap();
    let get = board.program("get-slot", &format!("cat {}", state.display()));
    let set = board.program("set-slot", &format!("echo \"$@\" >>{}", log.display()));
    let call = |what: &str, slot: &str| json!([{"type": "command", "command": [set, what, slot]}]);
    let mut of = TestBundle::new("new")
        .with("/update/strategy", json!("tegra-ab"))
        .with(
            "/update/slot_detection",
            json!({"type": "command", "command": [get]}),
        )
        .with("/update/activate", call("try", "{inactive_slot}"))
        .with("/update/rollback", call("back", "{previous_slot}"))
        .with(
            "/update/commit",
            call("keep", "{inactive_slot} of {platform}"),
        );
    for artifact in of.description["update"]["artifacts"]
        .as_array_mut()
        .unwrap()
    {
        let targets = artifact["slot_targets"].as_object_mut().unwrap();
        for (letter, digit) in [("a", "0"), ("b", "1")] {
            let target = targets.remove(letter).unwrap();
            targets.insert(digit.into(), target);
        }
    }
    let manifest = board.add("1", &of);
    board.writes(&manifest);
    fs::write(&state, "1").unwrap();
    board.starts("b");
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.active().as_deref(), Some("1"));
    assert_eq!(
        fs::read_to_string(&log).unwrap(),
        "back 0\ntry 1\nkeep 1 of testboard\n"
    );
    // A program that fails ends the update, and the way back is gone at once.
    board.program(
        "set-slot",
        &format!("echo \"$@\" >>{}; test $1 != try", log.display()),
    );
    let mut other = of.clone();
    other.build = "other".into();
    let other = other
        .with("/os_build_id", json!("other"))
        .with("/initramfs_build_id", json!("init-other"));
    fs::write(&log, "").unwrap();
    let manifest = board.add("2", &other);
    let why = board.refuses(&manifest);
    assert!(why.contains("set-slot try 0 failed"), "{why}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "back 1\ntry 0\nback 1\n");
    assert!(!board.waits());
    assert!(board.device().status().unwrap().failed_update.is_some());
}

/// Each prefix in sectors of 512 bytes of what is written to the environment, and each single sector of
/// it, reads as all of the old variables or all of the new ones.
#[test]
fn a_torn_environment_is_the_old_choice_or_the_new_one() {
    if !has_uboot_tools("a_torn_environment_is_the_old_choice_or_the_new_one") {
        return;
    }
    const SECTOR: usize = 512;
    let numbers = json!({"type": "mender-uboot", "partitions": {"a": 2, "b": 3}});
    let mut board = Board::new();
    board.set(&[("mender_boot_part", "2"), ("upgrade_available", "0")]);
    // So many variables that they take several sectors.
    let long = "x".repeat(700);
    for name in ["a-long", "b-long", "z-long"] {
        board.set(&[(name, &long)]);
    }
    let environment = board.at("environment");
    // What it was before the last write of it, which switches.
    let (kept, set) = (board.at("kept"), board.paths.tools.fw_setenv.clone());
    let keep = format!("cp {} {}", environment.display(), kept.display());
    board.paths.tools.fw_setenv =
        board.program("keep", &format!("{keep}\nexec {} \"$@\"", set.display()));
    let manifest = board.add("1", &bundle("new", numbers.clone(), numbers));
    board.writes(&manifest);
    let (before, after) = (fs::read(&kept).unwrap(), fs::read(&environment).unwrap());
    let changed: Vec<_> = (0..after.len() / SECTOR)
        .filter(|n| before[n * SECTOR..][..SECTOR] != after[n * SECTOR..][..SECTOR])
        .collect();
    assert!(changed.len() > 2, "{changed:?}");
    // One copy is written, and the other one is as it was.
    assert!(changed.iter().all(|n| *n < 32) || changed.iter().all(|n| *n >= 32));
    let mut seen = std::collections::BTreeSet::new();
    let mut look = |sectors: &[usize]| {
        let mut torn = before.clone();
        for n in sectors {
            let place = n * SECTOR..(n + 1) * SECTOR;
            torn[place.clone()].copy_from_slice(&after[place]);
        }
        fs::write(&environment, torn).unwrap();
        assert!(board.get("a-long") == long && board.get("z-long") == long);
        seen.insert((
            board.get("mender_boot_part"),
            board.get("upgrade_available"),
        ));
    };
    for count in 0..=changed.len() {
        look(&changed[..count]);
        look(&changed[count..]);
    }
    for n in &changed {
        look(&[*n]);
        let others: Vec<_> = changed.iter().copied().filter(|other| other != n).collect();
        look(&others);
    }
    let pair = |part: &str, trial: &str| (part.to_owned(), trial.to_owned());
    let both = [pair("2", "0"), pair("3", "1")];
    assert_eq!(seen, both.into());
}

#[test]
fn a_program_that_sets_nothing_is_noticed_before_the_slot_is_written() {
    if !has_uboot_tools("a_program_that_sets_nothing_is_noticed_before_the_slot_is_written") {
        return;
    }
    let mut board = Board::new();
    board.set(&[("avocado_boot_slot", "a")]);
    board.paths.tools.fw_setenv = board.program("old_setenv", "exit 0");
    let manifest = board.add("1", &TestBundle::new("new"));
    let before = fs::read(board.partition("rootfs-b")).unwrap();
    let why = board.refuses(&manifest);
    assert!(why.contains("sets no variables from a file"), "{why}");
    assert_eq!(fs::read(board.partition("rootfs-b")).unwrap(), before);
    assert!(!board.waits());
}
