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

/// A program that does with files what efibootmgr does with variables.
const EFIBOOTMGR: &str = r#"
cd "$EFIVARS" || exit 1
vendor=8be4df61-93ca-11d2-aa0d-00e098032b8c
value() { printf '\007\000\000\000'; for n in $(echo "$1" | tr , ' '); do
    printf "\\$(printf %03o 0x${n#??})\\$(printf %03o 0x${n%??})"; done; }
case $1 in
--bootnext) value "$2" >BootNext-$vendor ;;
--bootorder) value "$2" >BootOrder-$vendor ;;
--delete-bootnext) rm BootNext-$vendor ;;
*) exit 2 ;;
esac"#;

const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
pub(crate) const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
pub(crate) const UUIDS: [&str; 2] = [
    "4d21b016-b534-45c2-a9fb-5c16e091fd2d",
    "4d21b016-b534-45c2-a9fb-5c16e091fd2e",
];

pub(crate) struct Firmware<'a>(pub &'a Board);

impl Firmware<'_> {
    pub(crate) fn put(&self, name: &str, vendor: &str, value: &[u8]) {
        let path = self.0.at("efivars").join(format!("{name}-{vendor}"));
        fs::write(path, [&[7, 0, 0, 0], value].concat()).unwrap();
    }

    pub(crate) fn numbers(&self, name: &str) -> Vec<u16> {
        let path = self.0.at("efivars").join(format!("{name}-{GLOBAL}"));
        let bytes = fs::read(path).unwrap_or_default();
        let pairs = bytes.get(4..).unwrap_or_default().chunks_exact(2);
        pairs.map(|p| u16::from_le_bytes([p[0], p[1]])).collect()
    }

    /// Starts what it is told to start; the variable that says it once is gone then.
    fn starts(&self) -> &'static str {
        let next = self.numbers("BootNext");
        let _ = fs::remove_file(self.0.at("efivars").join(format!("BootNext-{GLOBAL}")));
        let first = next
            .first()
            .copied()
            .unwrap_or(self.numbers("BootOrder")[0]);
        let (slot, uuid) = match first {
            4 => ("a", UUIDS[0]),
            0x1a => ("b", UUIDS[1]),
            other => panic!("{other}"),
        };
        let text: Vec<u8> = format!("{}\0", uuid.to_uppercase())
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        self.put("LoaderDevicePartUUID", LOADER, &text);
        slot
    }
}

/// As the image for both slots has it.
const ENTRY: &str = "options root=PARTLABEL=rootfs-a ro\n";

pub(crate) fn efi_board() -> Board {
    let mut board = Board::new();
    let entries = board.at("esp/loader/entries");
    fs::create_dir_all(&entries).unwrap();
    fs::write(entries.join("avocado.conf"), ENTRY).unwrap();
    board.paths.os.mounted_boot = Some(board.at("esp"));
    let vars = board.at("efivars");
    let body = format!("EFIVARS={}{EFIBOOTMGR}", vars.display());
    board.paths.tools.efibootmgr = board.program("efibootmgr", &body);
    let firmware = Firmware(&board);
    for (number, label) in [(4_u16, "boot-a"), (0x1a, "boot-b"), (1, "Shell")] {
        let label: Vec<u8> = format!("{label}\0")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let option = [&[1, 0, 0, 0, 4, 0], label.as_slice(), &[1, 2, 3, 4]].concat();
        firmware.put(&format!("Boot{number:04X}"), GLOBAL, &option);
    }
    // The entry of the other slot is not in the order: some firmware ignores it then.
    firmware.put("BootOrder", GLOBAL, &[4, 0, 1, 0]);
    let slot = firmware.starts();
    board.starts(slot);
    board
}

#[test]
fn a_board_with_systemd_boot_takes_updates() {
    let by_uuid = json!({"type": "sdboot-efi", "partitions": {UUIDS[0]: "a", UUIDS[1]: "b"}});
    for entries in [
        json!({"a": "boot-a", "b": "boot-b"}),
        json!({"a": "0004", "b": "001A"}),
    ] {
        let action = json!({"type": "efibootmgr", "slot_entries": entries});
        let of = |build: &str| {
            bundle(build, by_uuid.clone(), action.clone())
                .with("/update/strategy", json!("sdboot-ab"))
        };
        let mut board = efi_board();
        let first = board.add("1", &of("first"));
        board.writes(&first);
        assert_eq!(Firmware(&board).numbers("BootNext"), [0x1a]);
        let entry = fs::read_to_string(board.at("esp/loader/entries/avocado.conf")).unwrap();
        assert_eq!(entry, ENTRY.replace("rootfs-a", "rootfs-b"));
        assert_eq!(Firmware(&board).numbers("BootOrder"), [4, 1, 0x1a]);
        // It does not come up: the next start is the old one by itself.
        assert_eq!(Firmware(&board).starts(), "b");
        let slot = Firmware(&board).starts();
        board.starts(slot);
        board.device().merge(&Silent).unwrap();
        assert_eq!(board.active(), None);
        assert!(!board.waits());
        // It does, and the start after the next one is the same.
        board.writes(&first);
        for _ in 0..3 {
            let slot = Firmware(&board).starts();
            assert_eq!(slot, "b");
            board.starts(slot);
            board.device().merge(&Silent).unwrap();
            assert_eq!(board.active().as_deref(), Some("1"));
        }
        assert_eq!(Firmware(&board).numbers("BootOrder"), [0x1a, 4, 1]);
    }
}

#[test]
fn an_entry_that_the_firmware_lost_is_told_before_anything_is_written() {
    let by_uuid = json!({"type": "sdboot-efi", "partitions": {UUIDS[0]: "a", UUIDS[1]: "b"}});
    let action = json!({"type": "efibootmgr", "slot_entries": {"a": "boot-a", "b": "gone"}});
    let board = efi_board();
    let manifest = board.add("1", &bundle("new", by_uuid, action));
    let problems = board.refuses_before_writing(&manifest);
    assert!(
        problems.iter().any(|p| p.contains("no entry `gone`")),
        "{problems:?}"
    );
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
