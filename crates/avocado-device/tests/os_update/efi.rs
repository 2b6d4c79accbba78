//! Boards with UEFI firmware, whose boot menu may have lost the entries of the slots.

use std::fs;
use std::path::Path;
use std::process::Command;

use avocado_device::{Activation, Cancel, OsUpdatePlan, RuntimeSource};
use avocado_events::Silent;
use avocado_manifest::Manifest;
use serde_json::json;

use crate::board::{Board, TestBundle};
use crate::common::{manifest_file, tree};
use crate::firmware::{
    ENTRIES, ENTRY, Firmware, LOADER, OTHER_UUID, SDBOOT, UUIDS, efi_board, efi_bundle, utf16,
};

const LABELS: [&str; 2] = ["boot-a", "boot-b"];

fn named(build: &str) -> TestBundle {
    efi_bundle(build, LABELS[0], LABELS[1])
}

/// What a plan tells. It changes nothing.
fn plan(board: &Board, manifest: &Manifest) -> OsUpdatePlan {
    let file = manifest_file(board.dir.path(), manifest);
    let before = tree(&board.at("efivars"));
    let source = RuntimeSource::Manifest(&file);
    let plan = board.device().plan(source, &Cancel::new(), &Silent);
    assert_eq!(tree(&board.at("efivars")), before);
    plan.unwrap().os_update.unwrap()
}

/// The one entry of each slot.
fn entries(board: &Board, file: &str) -> [u16; 2] {
    let found = [0, 1].map(|at| Firmware(board).entries(LABELS[at], UUIDS[at], file));
    found.map(|of_slot| {
        assert_eq!(of_slot.len(), 1, "{of_slot:?}");
        of_slot[0]
    })
}

/// The machine is started by its firmware.
fn starts(board: &mut Board) -> &'static str {
    let slot = Firmware(board).starts();
    board.starts(slot);
    slot
}

#[test]
fn a_board_with_systemd_boot_takes_updates() {
    for [a, b] in [LABELS, ["0004", "001A"]] {
        let mut board = efi_board();
        let first = board.add("1", &efi_bundle("first", a, b));
        board.writes(&first);
        assert_eq!(Firmware(&board).numbers("BootNext"), [0x1a]);
        let entry = fs::read_to_string(board.at("esp/loader/entries/avocado.conf")).unwrap();
        assert_eq!(entry, ENTRY.replace("rootfs-a", "rootfs-b"));
        assert_eq!(Firmware(&board).numbers("BootOrder"), [4, 1, 0x1a]);
        // It does not come up: the next start is the old one by itself.
        assert_eq!(Firmware(&board).starts(), "b");
        starts(&mut board);
        board.device().merge(&Silent).unwrap();
        assert_eq!(board.active(), None);
        assert!(!board.waits());
        // It does, and the start after the next one is the same.
        board.writes(&first);
        for _ in 0..3 {
            assert_eq!(starts(&mut board), "b");
            board.device().merge(&Silent).unwrap();
            assert_eq!(board.active().as_deref(), Some("1"));
        }
        assert_eq!(Firmware(&board).numbers("BootOrder"), [0x1a, 4, 1]);
        assert_eq!(entries(&board, SDBOOT), ENTRIES);
    }
}

/// The published documentation names the partitions by their devices.
#[test]
fn the_slot_is_known_by_the_device_of_its_partition() {
    let mut board = efi_board();
    let links = board.at("by-partlabel");
    fs::create_dir(&links).unwrap();
    let link = |label: &str| {
        let link = links.join(label);
        std::os::unix::fs::symlink(board.partition(label), &link).unwrap();
        link
    };
    let detection =
        json!({"type": "sdboot-efi", "partitions": {"a": link("boot-a"), "b": link("boot-b")}});
    let first = named("first").with("/update/slot_detection", detection);
    let first = board.add("1", &first);
    Firmware(&board).drops(0x1a);
    board.writes(&first);
    assert_eq!(starts(&mut board), "b");
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.active().as_deref(), Some("1"));
    entries(&board, SDBOOT);
}

#[test]
fn entries_that_the_firmware_dropped_are_made_again() {
    let only_the_other = [1];
    for (dropped, order) in [
        (&[0x1a][..], &[4, 1][..]),
        // What is gone is in the order still.
        (&[0x1a], &[0x1a, 4, 1]),
        (&[4], &only_the_other),
        (&[4, 0x1a], &[4, 1, 0x1a]),
        (&[4, 0x1a], &only_the_other),
    ] {
        let mut board = efi_board();
        for number in dropped {
            Firmware(&board).drops(*number);
        }
        Firmware(&board).put_numbers("BootOrder", order);
        Firmware(&board).put("LoaderImageIdentifier", LOADER, &utf16(SDBOOT));
        let first = board.add("1", &named("first"));
        let told = plan(&board, &first);
        assert_eq!(told.problems, [""; 0]);
        let made: Vec<_> = told
            .notes
            .iter()
            .filter(|n| n.contains("made again"))
            .collect();
        assert_eq!(made.len(), dropped.len(), "{:?}", told.notes);
        board.writes(&first);
        let [a, b] = entries(&board, SDBOOT);
        let firmware = Firmware(&board);
        assert_eq!(firmware.numbers("BootNext"), [b]);
        assert_eq!(firmware.numbers("BootOrder"), [a, 1, b]);
        // Asked for again, nothing is made.
        board.writes(&first);
        assert_eq!(entries(&board, SDBOOT), [a, b]);
        // It is kept by an entry that is gone as well.
        assert_eq!(starts(&mut board), "b");
        for number in [a, b] {
            Firmware(&board).drops(number);
        }
        board.device().merge(&Silent).unwrap();
        assert_eq!(board.active().as_deref(), Some("1"));
        assert_eq!(starts(&mut board), "b");
        // And the way back.
        let second = board.add("2", &named("second"));
        board.writes(&second);
        let [a, b] = entries(&board, SDBOOT);
        assert_eq!(starts(&mut board), "a");
        for number in [a, b] {
            Firmware(&board).drops(number);
        }
        fs::write(&board.paths.os_release[0], "AVOCADO_OS_BUILD_ID=third\n").unwrap();
        board.device().merge(&Silent).unwrap();
        assert!(!board.waits());
        assert_eq!(starts(&mut board), "b");
        assert_eq!(board.active().as_deref(), Some("1"));
        assert_eq!(
            Firmware(&board).entries(LABELS[1], UUIDS[1], SDBOOT).len(),
            1
        );
    }
}

#[test]
fn an_entry_is_made_for_the_loader_that_was_started() {
    let removable = match std::env::consts::ARCH {
        "x86_64" => r"\EFI\BOOT\BOOTX64.EFI",
        "aarch64" => r"\EFI\BOOT\BOOTAA64.EFI",
        _ => return,
    };
    let shim = r"\EFI\BOOT\shim.efi";
    for (current, said, expected) in [
        (Some((UUIDS[0], shim)), Some(SDBOOT), shim),
        // What the firmware says it started is none of this disk, or no program.
        (Some((OTHER_UUID, shim)), Some(SDBOOT), SDBOOT),
        (Some((UUIDS[0], "")), Some(SDBOOT), SDBOOT),
        (None, Some(SDBOOT), SDBOOT),
        (None, Some("/EFI/../x\n"), removable),
        (None, None, removable),
    ] {
        let mut board = efi_board();
        let firmware = Firmware(&board);
        for number in ENTRIES {
            firmware.drops(number);
        }
        if let Some((uuid, file)) = current {
            firmware.put_entry(7, "started", uuid, file);
            firmware.put_numbers("BootCurrent", &[7]);
        }
        if let Some(said) = said {
            firmware.put("LoaderImageIdentifier", LOADER, &utf16(said));
        }
        let first = board.add("1", &named("first"));
        board.writes(&first);
        entries(&board, expected);
        assert_eq!(starts(&mut board), "b");
    }
}

#[test]
fn an_entry_that_cannot_be_made_is_told_before_anything_is_written() {
    type Prepare = fn(&Board);
    let cases: [(&str, [&str; 2], Prepare, &str); 8] = [
        (
            "a number",
            ["0004", "001A"],
            |board| Firmware(board).drops(0x1a),
            "no entry Boot001A, and one that the bundle names by its number is not made again",
        ),
        (
            "a disk that was replaced",
            LABELS,
            |board| Firmware(board).put_entry(0x1a, "boot-b", OTHER_UUID, SDBOOT),
            "Boot001A (`boot-b`) of the firmware's boot menu starts from the partition 00112233-4455-6677-8899-aabbccddeeff, \
             and the slot has 4d21b016-b534-45c2-a9fb-5c16e091fd2e",
        ),
        (
            "a disk that was replaced, by number",
            ["0004", "001A"],
            |board| Firmware(board).put_entry(0x1a, "any", OTHER_UUID, SDBOOT),
            "Boot001A (`any`) of the firmware's boot menu starts from the partition 00112233",
        ),
        (
            "two that differ, and nothing tells which one it is",
            LABELS,
            |board| {
                let firmware = Firmware(board);
                firmware.put_entry(5, "boot-b", UUIDS[1], r"\other.efi");
                firmware.put_entry(0x1a, "boot-b", UUIDS[1], r"\another.efi");
                firmware.put_numbers("BootOrder", &[4]);
            },
            "more than one entry `boot-b`, and they differ",
        ),
        (
            "arguments of a kernel",
            LABELS,
            |board| {
                let firmware = Firmware(board);
                firmware.drops(0x1a);
                firmware.put_entry(7, "started", UUIDS[0], r"\vmlinuz.efi");
                firmware.put_data(7, &utf16("root=PARTLABEL=rootfs-a"));
                firmware.put_numbers("BootCurrent", &[7]);
            },
            "the entry that was started (`started`) has data for \\vmlinuz.efi",
        ),
        (
            "another partition with the label",
            LABELS,
            |board| {
                Firmware(board).drops(0x1a);
                let links = &board.paths.os.partition_uuids;
                fs::rename(links.join(UUIDS[1]), links.join(OTHER_UUID)).unwrap();
            },
            "no entry `boot-b`, and it cannot be made again",
        ),
        (
            "a partition of another disk",
            LABELS,
            |board| {
                Firmware(board).drops(0x1a);
                let node = board.partition("card-boot-b");
                fs::write(&node, "").unwrap();
                fs::write(board.partition("card"), "").unwrap();
                board.put_block_device("card", "4002:0", None);
                board.put_partition("card", "card-boot-b", "4002:2", "x");
                let link = board.paths.os.partition_uuids.join(UUIDS[1]);
                fs::remove_file(&link).unwrap();
                std::os::unix::fs::symlink(&node, &link).unwrap();
                board.take_labels();
            },
            "is on no disk of the running system",
        ),
        (
            "no program",
            LABELS,
            |board| {
                Firmware(board).drops(0x1a);
                fs::remove_file(board.at("bin/efibootmgr")).unwrap();
            },
            "efibootmgr is missing",
        ),
    ];
    for (what, [a, b], prepare, expected) in cases {
        let board = efi_board();
        let first = board.add("1", &efi_bundle("first", a, b));
        prepare(&board);
        let told = plan(&board, &first).problems;
        assert!(
            told.iter().any(|p| p.contains(expected)),
            "{what}: {told:?}"
        );
        assert_eq!(board.refuses_before_writing(&first), told, "{what}");
    }
    // Where the loader is, what it is and what it is started with is known of no other kind of board.
    let board = efi_board();
    let get = board.program("get", "echo a");
    let detection = json!({"type": "command", "command": [get]});
    let of = named("first").with("/update/slot_detection", detection);
    let first = board.add("1", &of);
    Firmware(&board).drops(0x1a);
    let told = board.refuses_before_writing(&first);
    let expected = "only `slot_detection` of `sdboot-efi` says which partition it starts from";
    assert!(told.iter().any(|p| p.contains(expected)), "{told:?}");
}

#[test]
fn an_entry_of_another_disk_hides_none_of_this_one_and_is_not_changed() {
    let mut board = efi_board();
    Firmware(&board).put_entry(0, "boot-b", OTHER_UUID, SDBOOT);
    let first = board.add("1", &named("first"));
    board.writes(&first);
    assert_eq!(Firmware(&board).numbers("BootNext"), [0x1a]);
    assert_eq!(starts(&mut board), "b");
    assert!(Firmware(&board).has(0));
}

/// As where a service of the board makes it at the same time.
#[test]
fn an_entry_that_is_there_twice_is_one() {
    let mut board = efi_board();
    Firmware(&board).put_entry(0x30, "boot-b", UUIDS[1], SDBOOT);
    Firmware(&board).put_numbers("BootOrder", &[4, 0x30, 0x1a, 1]);
    // While the slot is written neither is in the order.
    let order = board.at("order");
    let (from, to) = (board.at("efivars"), order.display());
    let keep = format!("cat {}/BootOrder-* >>{to}", from.display());
    Firmware(&board).efibootmgr("", &keep);
    let first = board.add("1", &named("first"));
    board.writes(&first);
    assert_eq!(Firmware(&board).numbers("BootNext"), [0x1a]);
    assert_eq!(Firmware(&board).numbers("BootOrder"), [4, 1, 0x1a]);
    assert!(
        fs::read(&order)
            .unwrap()
            .starts_with(&[7, 0, 0, 0, 4, 0, 1, 0, 7])
    );
    assert_eq!(starts(&mut board), "b");
}

/// As where that service finds the loader under another name.
#[test]
fn of_two_that_differ_the_one_that_is_in_use_counts() {
    let other = r"\EFI\BOOT\BOOTX64.EFI";
    for (what, order, current) in [
        ("started", vec![4, 0x1a, 0x30], Some(0x1a)),
        ("the file of the loader", vec![4], None),
    ] {
        let board = efi_board();
        let firmware = Firmware(&board);
        firmware.put_entry(0x30, "boot-b", UUIDS[1], other);
        firmware.put_numbers("BootOrder", &order);
        if let Some(number) = current {
            firmware.put_numbers("BootCurrent", &[number]);
        }
        firmware.put("LoaderImageIdentifier", LOADER, &utf16(SDBOOT));
        let first = board.add("1", &named("first"));
        board.writes(&first);
        assert_eq!(Firmware(&board).numbers("BootNext"), [0x1a], "{what}");
    }
}

/// Firmware passes over it, and would start what comes next.
#[test]
fn an_entry_that_is_not_active_is_made_so() {
    for twice in [false, true] {
        let mut board = efi_board();
        let firmware = Firmware(&board);
        firmware.deactivates(0x1a);
        if twice {
            firmware.put_entry(0x30, "boot-b", UUIDS[1], SDBOOT);
        }
        let first = board.add("1", &named("first"));
        let told = plan(&board, &first);
        let is_told = told.notes.iter().any(|note| note.contains("is not active"));
        assert_eq!(is_told, !twice, "{told:?}");
        board.writes(&first);
        let expected = if twice { 0x30 } else { 0x1a };
        assert_eq!(Firmware(&board).numbers("BootNext"), [expected]);
        assert_eq!(starts(&mut board), "b");
    }
}

/// It is in the way of nothing that is named by a number.
#[test]
fn a_variable_that_cannot_be_read_is_passed_over() {
    let mut board = efi_board();
    let firmware = Firmware(&board);
    firmware.breaks(0x40);
    firmware.put_numbers("BootOrder", &[4, 0x1a, 0x40]);
    let first = board.add("1", &efi_bundle("first", "0004", "001A"));
    board.writes(&first);
    assert_eq!(starts(&mut board), "b");
}

#[test]
fn firmware_that_takes_no_entry_leaves_the_slot_as_it_was() {
    // No room; it says that it did and did not; another partition, or another label.
    let bin = "case $* in *--create-only*)";
    for (before, after, expected) in [
        ("touch $TOP/no-room", "", "No space left on device"),
        (
            &format!("{bin} exit 0 ;; esac")[..],
            "",
            "did not keep the entry `boot-b`",
        ),
        (
            "cp $TOP/hd-1 $TOP/hd-2",
            "",
            "is for the partition 4d21b016-b534-45c2-a9fb-5c16e091fd2d after it was made",
        ),
        (
            "",
            &format!("{bin} sed -i 's/b.o.o.t.-/x&/' $TOP/efivars/Boot0000-* ;; esac")[..],
            "after it was made",
        ),
    ] {
        let mut board = efi_board();
        Firmware(&board).drops(0x1a);
        let first = board.add("1", &named("first"));
        let table = fs::read(board.at("hd-2")).unwrap();
        Firmware(&board).efibootmgr(before, after);
        let slot = fs::read(board.partition("rootfs-b")).unwrap();
        for _ in 0..2 {
            let why = board.refuses(&first);
            assert!(why.contains(expected), "{expected}: {why}");
        }
        assert_eq!(fs::read(board.partition("rootfs-b")).unwrap(), slot);
        assert!(!board.waits());
        let firmware = Firmware(&board);
        assert!((0..0x100).filter(|n| firmware.has(*n)).eq([1, 4]));
        assert_eq!(firmware.numbers("BootOrder"), [4, 1]);
        assert_eq!(firmware.numbers("BootNext"), [0; 0]);
        // When it takes one, nothing of that is in the way.
        fs::write(board.at("hd-2"), table).unwrap();
        let _ = fs::remove_file(board.at("no-room"));
        firmware.efibootmgr("", "");
        board.writes(&first);
        assert_eq!(starts(&mut board), "b");
    }
}

/// What lasts of a board.
const LASTING: [&str; 4] = ["base", "efivars", "nodes", "esp"];

fn copy(from: &Path, to: &Path) {
    for name in LASTING {
        let _ = fs::remove_dir_all(to.join(name));
        let copied = Command::new("cp")
            .arg("-a")
            .arg(from.join(name))
            .arg(to)
            .status();
        assert!(copied.unwrap().success());
    }
}

/// Does `work`, and returns every state that a cut of the power before or after a change of the firmware can
/// leave.
fn cuts(board: &Board, work: impl FnOnce(&Board)) -> Vec<tempfile::TempDir> {
    let states = tempfile::tempdir().unwrap();
    let keep = format!(
        "n=$(ls {0} | wc -l); n=$((n + 1000)); mkdir {0}/$n; (cd $TOP; cp -a {1} {0}/$n)",
        states.path().display(),
        LASTING.join(" "),
    );
    Firmware(board).efibootmgr(&keep, &keep);
    work(board);
    Firmware(board).efibootmgr("", "");
    let names = avocado_fs::file_names(states.path()).unwrap();
    let kept = names.into_iter().map(|name| {
        let kept = tempfile::tempdir().unwrap();
        copy(&states.path().join(name), kept.path());
        kept
    });
    kept.collect()
}

#[test]
fn a_cut_while_entries_are_made_leaves_one_of_each_and_a_system_that_goes_on() {
    let mut board = efi_board();
    let first = board.add("1", &named("first"));
    let start = tempfile::tempdir().unwrap();
    copy(board.dir.path(), start.path());
    let mut looked = 0;
    for phase in ["activate", "commit", "back"] {
        for lost in [&[0x1a][..], &ENTRIES] {
            copy(start.path(), board.dir.path());
            starts(&mut board);
            if phase != "activate" {
                board.writes(&first);
                assert_eq!(starts(&mut board), "b");
                if phase == "back" {
                    fs::write(&board.paths.os_release[0], "AVOCADO_OS_BUILD_ID=third\n").unwrap();
                }
            }
            for number in lost {
                Firmware(&board).drops(*number);
            }
            let states = cuts(&board, |board| match phase {
                "activate" => drop(board.writes(&first)),
                _ => board.device().merge(&Silent).unwrap(),
            });
            for state in &states {
                for again in [&[][..], &ENTRIES] {
                    copy(state.path(), board.dir.path());
                    let _ = fs::remove_dir_all(board.at("run"));
                    for number in again.iter().filter(|n| Firmware(&board).has(**n)) {
                        Firmware(&board).drops(*number);
                    }
                    goes_on(&mut board, &first);
                    looked += 1;
                }
            }
        }
    }
    assert!(looked > 50, "{looked} states");
}

/// The machine starts the old or the new system, whole, and has the new one when it was asked for again.
fn goes_on(board: &mut Board, first: &Manifest) {
    for _ in 0..4 {
        let slot = starts(board);
        let build = board.build_in(&format!("rootfs-{slot}"));
        assert!(
            slot == "a" || build.contains("=first\n"),
            "{slot} has {build}"
        );
        board.device().merge(&Silent).unwrap();
        if board.active().as_deref() == Some("1") {
            break;
        }
        assert!(!board.waits());
        let again = board.device().activate(first.id.as_str(), &Silent).unwrap();
        assert!(matches!(again, Activation::RebootRequired { .. }));
    }
    assert_eq!(board.active().as_deref(), Some("1"));
    assert_eq!(starts(board), "b");
    for (label, uuid) in LABELS.into_iter().zip(UUIDS) {
        assert!(Firmware(board).entries(label, uuid, SDBOOT).len() <= 1);
    }
}
