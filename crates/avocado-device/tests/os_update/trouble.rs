//! Updates in which something does not work: boot loaders that cannot be told, markers that say too
//! little, firmware that started something else.

use std::fs;
use std::path::PathBuf;

use avocado_device::{Activation, FailedUpdate};
use avocado_events::Silent;
use serde_json::{Value, json};

use crate::board::{Board, TestBundle, has_uboot_tools};
use crate::firmware::{Firmware, LOADER, UUIDS, efi_board, utf16};
use crate::loaders::bundle;

fn failed(board: &Board) -> Option<FailedUpdate> {
    board.device().status().unwrap().failed_update
}

/// A board with programs for its boot loader, which write down how they are called.
pub(crate) struct Programs {
    pub(crate) board: Board,
    slot: PathBuf,
    log: PathBuf,
}

impl Programs {
    pub(crate) fn new() -> Self {
        let board = Board::new();
        let (slot, log) = (board.at("slot"), board.at("log"));
        fs::write(&slot, "a").unwrap();
        board.program("get", &format!("cat {}", slot.display()));
        let programs = Programs { board, slot, log };
        programs.fails("nothing");
        programs
    }

    /// From now on telling this fails.
    pub(crate) fn fails(&self, what: &str) {
        let log = self.log.display();
        self.board.program(
            "set",
            &format!("echo \"$@\" >>{log}; test $1 != {what} || exit 1"),
        );
    }

    pub(crate) fn starts(&mut self, slot: &str) {
        fs::write(&self.slot, slot).unwrap();
        self.board.starts(slot);
    }

    /// What was told since.
    pub(crate) fn told(&self) -> String {
        let told = fs::read_to_string(&self.log).unwrap_or_default();
        let _ = fs::remove_file(&self.log);
        told.lines().collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn bundle(&self, build: &str) -> TestBundle {
        let bin = self.board.at("bin");
        let call = |what: &str| json!([{"type": "command", "command": [bin.join("set"), what, "{inactive_slot}"]}]);
        TestBundle::new(build)
            .with(
                "/update/slot_detection",
                json!({"type": "command", "command": [bin.join("get")]}),
            )
            .with("/update/activate", call("try"))
            .with("/update/rollback", call("back"))
            .with("/update/commit", call("keep"))
    }
}

#[test]
fn a_list_of_nothing_is_no_way_back_and_no_commit() {
    if !has_uboot_tools("a_list_of_nothing_is_no_way_back_and_no_commit") {
        return;
    }
    let names = json!({"type": "rauc-uboot", "bootnames": {"a": "a", "b": "b"}});
    let of = |build: &str| {
        bundle(build, names.clone(), names.clone())
            .with("/update/rollback", json!([]))
            .with("/update/commit", json!([]))
    };
    let mut board = Board::new();
    board.set(&[
        ("BOOT_ORDER", "a b"),
        ("BOOT_a_LEFT", "3"),
        ("BOOT_b_LEFT", "3"),
    ]);
    let first = board.add("1", &of("first"));
    board.writes(&first);
    board.starts("b");
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.active().as_deref(), Some("1"));
    assert_eq!(board.get("BOOT_ORDER"), "b");
    let second = board.add("2", &of("second"));
    board.writes(&second);
    board.starts("b");
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.get("BOOT_ORDER"), "b");
    assert_eq!(board.get("BOOT_a_LEFT"), "0");
}

#[test]
fn a_slot_that_cannot_be_kept_is_told_and_another_update_leaves_it_startable() {
    let mut on = Programs::new();
    let first = on.board.add("1", &on.bundle("first"));
    on.board.writes(&first);
    assert_eq!(on.told(), "back a, try b");
    on.fails("keep");
    on.starts("b");
    on.board.device().merge(&Silent).unwrap();
    assert!(on.board.waits() && on.board.active().is_none());
    let why = failed(&on.board).unwrap().why;
    assert!(why.contains("set keep b failed"), "{why}");
    // It is not taken for proven when it is asked for, and another reboot would not mend that.
    let error = on.board.device().activate(first.id.as_str(), &Silent);
    let error = avocado_events::chain(&error.unwrap_err());
    assert!(error.contains("set keep b failed"), "{error}");
    assert_eq!(on.board.active(), None);
    on.told();
    // The other slot is written: the loader starts this one before that.
    let second = on.board.add("2", &on.bundle("second"));
    on.board.writes(&second);
    assert_eq!(on.told(), "keep b, back b, back b, try a");
    assert_eq!(
        on.board.build_in("rootfs-a"),
        "AVOCADO_OS_BUILD_ID=second\n"
    );
    on.fails("nothing");
    on.starts("a");
    on.board.device().merge(&Silent).unwrap();
    assert_eq!(on.board.active().as_deref(), Some("2"));
    assert_eq!(failed(&on.board), None);
}

#[test]
fn the_first_reason_stays() {
    let mut on = Programs::new();
    let first = on.board.add("1", &on.bundle("first"));
    on.board.writes(&first);
    on.fails("back");
    on.starts("b");
    fs::write(&on.board.paths.os_release[0], "AVOCADO_OS_BUILD_ID=third\n").unwrap();
    on.board.device().merge(&Silent).unwrap();
    // The loader could not be told to go back, and why it should is there all the same.
    let why = "AVOCADO_OS_BUILD_ID=third, and first was written";
    assert!(on.board.waits());
    assert!(failed(&on.board).unwrap().why.contains(why));
    on.fails("nothing");
    on.starts("a");
    on.board.device().merge(&Silent).unwrap();
    assert!(!on.board.waits());
    assert!(failed(&on.board).unwrap().why.contains(why));
}

#[test]
fn a_way_back_that_names_no_slot_is_not_called_for_the_slot_that_runs() {
    let on = Programs::new();
    let set = on.board.at("bin/set");
    let fixed = json!([{"type": "command", "command": [set, "swap"]}]);
    let by_activate = on.bundle("one").with("/update/rollback", fixed.clone());
    let manifest = on.board.add("1", &by_activate);
    on.board.writes(&manifest);
    assert_eq!(on.told(), "try a, try b");
    let neither = on.bundle("two").with("/update/rollback", fixed.clone());
    let manifest = on.board.add("2", &neither.with("/update/activate", fixed));
    let problems = on.board.refuses_before_writing(&manifest);
    assert!(
        problems
            .iter()
            .any(|p| p.contains("to start the slot that runs")),
        "{problems:?}"
    );
}

/// b runs because the firmware fell back to it, and the order begins with a, which is to be written.
#[test]
fn firmware_that_fell_back_starts_the_slot_that_runs_before_the_other_is_written() {
    let by_uuid = json!({"type": "sdboot-efi", "partitions": {UUIDS[0]: "a", UUIDS[1]: "b"}});
    let action = json!({"type": "efibootmgr", "slot_entries": {"a": "boot-a", "b": "boot-b"}});
    let board = efi_board();
    let firmware = Firmware(&board);
    firmware.put("LoaderDevicePartUUID", LOADER, &utf16(UUIDS[1]));
    assert_eq!(firmware.numbers("BootOrder"), [4, 1]);
    let manifest = board.add("1", &bundle("new", by_uuid, action));
    board.writes(&manifest);
    // While it was written it was not in the order at all.
    assert_eq!(firmware.numbers("BootOrder"), [0x1a, 1, 4]);
    assert_eq!(firmware.numbers("BootNext"), [4]);
}

/// The record is a variable, and what runs is told by a program: they differ.
#[test]
fn a_variable_is_set_to_the_slot_that_runs_before_the_other_is_written() {
    if !has_uboot_tools("a_variable_is_set_to_the_slot_that_runs_before_the_other_is_written") {
        return;
    }
    let mut on = Programs::new();
    on.board.set(&[("slot", "a")]);
    on.starts("b");
    // Each time the variables are set, what is in the slot to be written then is written down.
    let setenv = on.board.paths.tools.fw_setenv.clone();
    let (seen, slot) = (on.board.at("seen"), on.board.partition("rootfs-a"));
    let body = format!(
        "test \"$1\" = -c || head -n 1 {} >>{}\nexec {} \"$@\"",
        slot.display(),
        seen.display(),
        setenv.display()
    );
    on.board.paths.tools.fw_setenv = on.board.program("seen_setenv", &body);
    // Nothing but the way back sets the variable.
    let set = json!([{"type": "uboot-env", "set": {"slot": "{inactive_slot}"}}]);
    let of = on.bundle("new").with("/update/rollback", set);
    let manifest = on.board.add("1", &of);
    on.board.writes(&manifest);
    let seen = fs::read_to_string(&seen).unwrap();
    assert_eq!(seen, "AVOCADO_OS_BUILD_ID=old\n");
    assert_eq!(on.board.build_in("rootfs-a"), "AVOCADO_OS_BUILD_ID=new\n");
    assert_eq!(on.board.get("slot"), "b");
}

#[test]
fn an_environment_with_one_copy_is_refused() {
    if !has_uboot_tools("an_environment_with_one_copy_is_refused") {
        return;
    }
    let board = Board::new();
    board.set(&[("avocado_boot_slot", "a")]);
    let manifest = board.add("1", &TestBundle::new("new"));
    let config = fs::read_to_string(board.at("fw_env.config")).unwrap();
    fs::write(board.at("fw_env.config"), config.lines().next().unwrap()).unwrap();
    let problems = board.refuses_before_writing(&manifest);
    assert!(
        problems.iter().any(|p| p.contains("1 of the two copies")),
        "{problems:?}"
    );
}

#[test]
fn a_program_without_files_of_variables_is_told_before_anything_is_written() {
    if !has_uboot_tools("a_program_without_files_of_variables_is_told_before_anything_is_written") {
        return;
    }
    let board = Board::new();
    board.set(&[("avocado_boot_slot", "a")]);
    let manifest = board.add("1", &TestBundle::new("new"));
    board.program("fw_setenv", "exit 1");
    let problems = board.refuses_before_writing(&manifest);
    assert!(
        problems.iter().any(|p| p.contains("(`-s`)")),
        "{problems:?}"
    );
}

#[test]
fn an_update_of_an_older_agent_waits_for_the_reboot() {
    if !has_uboot_tools("an_update_of_an_older_agent_waits_for_the_reboot") {
        return;
    }
    let mut board = Board::new();
    board.set(&[("avocado_boot_slot", "a")]);
    let manifest = board.add("1", &TestBundle::new("new"));
    board.writes(&manifest);
    let marker = board.paths.base.join("pending-update.json");
    let mut pending: Value = serde_json::from_slice(&fs::read(&marker).unwrap()).unwrap();
    let fields = pending.as_object_mut().unwrap();
    fields.remove("boot_id");
    fs::write(&marker, pending.to_string()).unwrap();
    // The variable says b, and a runs: nothing was started yet.
    board.device().refresh(&Silent).unwrap();
    assert!(board.waits());
    assert_eq!(board.get("avocado_boot_slot"), "b");
    assert_eq!(failed(&board), None);
    board.starts("b");
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.active().as_deref(), Some("1"));
}

#[test]
fn a_newer_choice_is_not_taken_back_by_an_update_that_waits() {
    let mut on = Programs::new();
    let old = on.board.add("0", &on.bundle("old"));
    fs::write(on.board.at("initramfs-build-id"), "init-old").unwrap();
    on.board
        .device()
        .activate(old.id.as_str(), &Silent)
        .unwrap();
    let new = on.board.add("1", &on.bundle("new"));
    on.board.writes(&new);
    on.starts("b");
    // What runs is not known at this boot, and the runtime of an OS as this one is chosen.
    fs::write(&on.slot, "unknown").unwrap();
    on.board.device().merge(&Silent).unwrap();
    assert!(on.board.waits());
    let mut other = on.bundle("new");
    other.description["note"] = json!("another archive");
    let other = on.board.add("2", &other);
    let activation = on.board.device().activate(other.id.as_str(), &Silent);
    assert!(matches!(activation.unwrap(), Activation::Active(_)));
    fs::write(&on.slot, "b").unwrap();
    on.board.device().merge(&Silent).unwrap();
    assert!(!on.board.waits());
    assert_eq!(on.board.active().as_deref(), Some("2"));
}

#[test]
fn a_marker_that_tells_nothing_is_told_and_set_aside() {
    for damage in ["{", r#"{"previous_slot":"c"}"#] {
        let mut on = Programs::new();
        let new = on.board.add("1", &on.bundle("new"));
        let marker = on.board.paths.base.join("pending-update.json");
        fs::write(&marker, damage).unwrap();
        // No bundle tells what the boot loader is: it stays.
        on.board.device().merge(&Silent).unwrap();
        assert!(on.board.waits());
        let why = failed(&on.board).unwrap().why;
        assert!(why.contains("pending-update.json"), "{why}");
        fs::remove_file(&marker).unwrap();
        on.board.writes(&new);
        on.starts("b");
        on.board.device().merge(&Silent).unwrap();
        on.told();
        fs::write(&marker, damage).unwrap();
        on.board.device().merge(&Silent).unwrap();
        assert!(!on.board.waits());
        assert_eq!(on.told(), "back b");
        assert_eq!(
            fs::read_to_string(marker.with_extension("json.damaged")).unwrap(),
            damage
        );
        assert!(
            failed(&on.board)
                .unwrap()
                .why
                .contains("pending-update.json")
        );
    }
}

/// A boot loader that is a variable says only what is started next: what runs is where the root is.
#[test]
fn a_marker_that_tells_nothing_is_set_aside_where_the_root_tells_the_slot() {
    const NAME: &str = "a_marker_that_tells_nothing_is_set_aside_where_the_root_tells_the_slot";
    if !has_uboot_tools(NAME) {
        return;
    }
    let numbers = json!({"type": "mender-uboot", "partitions": {"a": 3, "b": 4}});
    let mender = |build: &str| bundle(build, numbers.clone(), numbers.clone());
    for (variable, slots, labelled) in [
        ("avocado_boot_slot", ["a", "b"], true),
        ("mender_boot_part", ["3", "4"], true),
        ("mender_boot_part", ["3", "4"], false),
    ] {
        let of = |build: &str| match variable {
            "mender_boot_part" => mender(build),
            _ => TestBundle::new(build),
        };
        for reboots in [false, true] {
            let mut board = Board::new();
            board.set(&[(variable, slots[0]), ("upgrade_available", "0")]);
            let first = board.add("1", &of("first"));
            board.writes(&first);
            board.starts("b");
            board.device().merge(&Silent).unwrap();
            assert_eq!(board.active().as_deref(), Some("1"));
            let second = board.add("2", &of("second"));
            board.writes(&second);
            assert_eq!(board.get(variable), slots[0]);
            let marker = board.paths.base.join("pending-update.json");
            fs::write(&marker, "{").unwrap();
            let runs = if reboots { "a" } else { "b" };
            if reboots {
                board.starts(runs);
            }
            // Where the root is not known, neither slot is chosen.
            let mounts = fs::read(&board.paths.os.mounts).unwrap();
            fs::write(
                &board.paths.os.mounts,
                "26 1 0:31 / / rw - overlay overlay rw\n",
            )
            .unwrap();
            board.device().merge(&Silent).unwrap();
            assert!(board.waits());
            assert_eq!(board.get(variable), slots[0]);
            fs::write(&board.paths.os.mounts, mounts).unwrap();
            if !labelled {
                board.take_labels();
            }
            if reboots {
                // What nobody has proven is not kept: it is settled once the boot loader went back.
                board.device().merge(&Silent).unwrap();
                assert!(board.waits());
                assert_eq!(board.get(variable), slots[0]);
                board.starts("b");
            }
            board.device().merge(&Silent).unwrap();
            assert!(!board.waits());
            assert_eq!(board.get(variable), slots[1]);
            assert_eq!(board.active().as_deref(), Some("1"));
            let told = failed(&board).unwrap().why;
            assert!(told.contains("pending-update.json"), "{told}");
            assert!(marker.with_extension("json.damaged").exists());
        }
    }
}

#[test]
fn what_is_wrong_with_the_archive_hides_nothing_else() {
    let on = Programs::new();
    let mut of = on.bundle("new").with("/architecture", json!("riscv64"));
    of.files[1].1.pop();
    on.board.take_partition("boot-b");
    let manifest = on.board.add("1", &of);
    let problems = on.board.refuses_before_writing(&manifest);
    for part in ["riscv64", "another digest", "boot-b"] {
        assert!(
            problems.iter().any(|p| p.contains(part)),
            "{part}: {problems:?}"
        );
    }
}
