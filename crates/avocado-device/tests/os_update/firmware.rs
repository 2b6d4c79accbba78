//! UEFI firmware: its variables are files, and a program does with them what `efibootmgr` does with those of a
//! machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::board::{Board, TestBundle};
use crate::loaders::bundle;

const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
pub(crate) const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The partitions that systemd-boot is started from, by their place on the disk.
pub(crate) const UUIDS: [&str; 2] = [
    "4d21b016-b534-45c2-a9fb-5c16e091fd2d",
    "4d21b016-b534-45c2-a9fb-5c16e091fd2e",
];

/// That of a partition of another disk.
pub(crate) const OTHER_UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

/// The file that systemd-boot is.
pub(crate) const SDBOOT: &str = r"\EFI\systemd\systemd-bootx64.efi";

/// The numbers of the entries that the board has.
pub(crate) const ENTRIES: [u16; 2] = [4, 0x1a];

/// As the program, it takes no number that no entry has. Partitions have the number of their boot partition.
const EFIBOOTMGR: &str = r#"
vendor=8be4df61-93ca-11d2-aa0d-00e098032b8c
cd "$TOP/efivars" || exit 1
byte() { printf "\\$(printf %03o "$1")"; }
le16() { byte $(($1 & 255)); byte $(($1 >> 8)); }
value() { byte 7; byte 0; le16 0; for n in $(echo "$1" | tr , ' '); do le16 0x$n; done; }
there() { test -e "Boot$1-$vendor" || { echo "entry $1 does not exist" >&2; exit 8; }; }
utf16() { printf '%s\0' "$1" | iconv -t UTF-16LE; }
put() { cat >../variable && mv ../variable "$1-$vendor"; }
size() { stat -c %s "$1"; }
create() {
    test ! -e "Boot$number-$vendor" || exit 40
    test ! -e ../no-room || { echo 'Could not prepare Boot variable: No space left on device' >&2; exit 5; }
    test "$disk" -ef ../nodes/own || exit 41
    utf16 "$loader" >../file
    { cat "../hd-$part"; byte 4; byte 4; le16 $(($(size ../file) + 4)); cat ../file; printf '\177\377\004\000'; } >../path
    { le16 7; le16 0; le16 1; le16 0; le16 "$(size ../path)"; utf16 "$label"; cat ../path; } | put "Boot$number"
}
delete() {
    there "$number"
    rm "Boot$number-$vendor"
}
activate() {
    there "$number"
    { head -c 4 "Boot$number-$vendor"; le16 1; le16 0; tail -c +9 "Boot$number-$vendor"; } | put "Boot$number"
}
what=
while test $# -gt 0; do
    case $1 in
    --quiet) ;;
    --create-only) what=create ;;
    --active) what=activate ;;
    --delete-bootnum) what=delete ;;
    --bootnum) number=$2; shift ;;
    --disk) disk=$2; shift ;;
    --part) part=$2; shift ;;
    --label) label=$2; shift ;;
    --loader) loader=$2; shift ;;
    --bootnext) there "$2"; value "$2" | put BootNext; shift ;;
    --bootorder) for n in $(echo "$2" | tr , ' '); do there "$n"; done; value "$2" | put BootOrder; shift ;;
    --delete-bootnext) rm "BootNext-$vendor" ;;
    *) exit 2 ;;
    esac
    shift
done
$what"#;

pub(crate) struct Firmware<'a>(pub(crate) &'a Board);

impl Firmware<'_> {
    fn variable(&self, name: &str, vendor: &str) -> PathBuf {
        self.0.at("efivars").join(format!("{name}-{vendor}"))
    }

    pub(crate) fn put(&self, name: &str, vendor: &str, value: &[u8]) {
        let bytes = [&[7, 0, 0, 0], value].concat();
        fs::write(self.variable(name, vendor), bytes).unwrap();
    }

    pub(crate) fn put_numbers(&self, name: &str, numbers: &[u16]) {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.put(name, GLOBAL, &bytes);
    }

    pub(crate) fn numbers(&self, name: &str) -> Vec<u16> {
        let bytes = fs::read(self.variable(name, GLOBAL)).unwrap_or_default();
        let pairs = bytes.get(4..).unwrap_or_default().chunks_exact(2);
        pairs.map(|p| u16::from_le_bytes([p[0], p[1]])).collect()
    }

    pub(crate) fn put_entry(&self, number: u16, label: &str, uuid: &str, file: &str) {
        let path = [
            hard_drive(uuid),
            node(4, &utf16(file)),
            vec![0x7f, 0xff, 4, 0],
        ]
        .concat();
        let length = u16::try_from(path.len()).unwrap();
        let option = [
            vec![1, 0, 0, 0],
            length.to_le_bytes().to_vec(),
            utf16(label),
            path,
        ]
        .concat();
        self.put(&format!("Boot{number:04X}"), GLOBAL, &option);
    }

    fn change_entry(&self, number: u16, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.variable(&format!("Boot{number:04X}"), GLOBAL);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
    }

    /// Gives an entry data for what it starts.
    pub(crate) fn put_data(&self, number: u16, data: &[u8]) {
        self.change_entry(number, |bytes| bytes.extend(data));
    }

    /// Has the firmware pass over an entry.
    pub(crate) fn deactivates(&self, number: u16) {
        self.change_entry(number, |bytes| bytes[4] = 0);
    }

    /// An entry that cannot be read.
    pub(crate) fn breaks(&self, number: u16) {
        fs::create_dir(self.variable(&format!("Boot{number:04X}"), GLOBAL)).unwrap();
    }

    pub(crate) fn has(&self, number: u16) -> bool {
        let name = format!("Boot{number:04X}");
        self.variable(&name, GLOBAL).exists()
    }

    /// Forgets an entry, whose number stays in the order.
    pub(crate) fn drops(&self, number: u16) {
        let name = format!("Boot{number:04X}");
        fs::remove_file(self.variable(&name, GLOBAL)).unwrap();
    }

    /// The numbers of the entries of this label that start from this partition, with this file.
    pub(crate) fn entries(&self, label: &str, uuid: &str, file: &str) -> Vec<u16> {
        let parts = [utf16(label), hard_drive(uuid), utf16(file)];
        let numbers = (0..0x100_u16).filter(|number| {
            let name = format!("Boot{number:04X}");
            let bytes = fs::read(self.variable(&name, GLOBAL)).unwrap_or_default();
            let has = |part: &Vec<u8>| bytes.windows(part.len()).any(|w| w == part);
            parts.iter().all(has)
        });
        numbers.collect()
    }

    /// The first entry that there is of those that would be started, and its slot.
    fn next(&self) -> Option<(u16, usize)> {
        let order = [self.numbers("BootNext"), self.numbers("BootOrder")].concat();
        order.into_iter().find_map(|number| {
            let bytes = fs::read(self.variable(&format!("Boot{number:04X}"), GLOBAL)).ok()?;
            // One that is not active is passed over.
            if bytes.get(4)? & 1 == 0 {
                return None;
            }
            let starts_from = |uuid: &str| {
                let part = hard_drive(uuid);
                bytes.windows(part.len()).any(|w| w == part)
            };
            Some((number, UUIDS.iter().position(|uuid| starts_from(uuid))?))
        })
    }

    /// Starts what it is told to start, or else the first partition of the disk. The variable that says it once is
    /// gone then.
    pub(crate) fn starts(&self) -> &'static str {
        let next = self.next();
        let _ = fs::remove_file(self.variable("BootNext", GLOBAL));
        let _ = fs::remove_file(self.variable("BootCurrent", GLOBAL));
        if let Some((number, _)) = next {
            self.put_numbers("BootCurrent", &[number]);
        }
        let slot = next.map_or(0, |(_, slot)| slot);
        let uuid = utf16(&UUIDS[slot].to_uppercase());
        self.put("LoaderDevicePartUUID", LOADER, &uuid);
        ["a", "b"][slot]
    }

    /// Lets the program do this before, and with its arguments.
    pub(crate) fn efibootmgr(&self, before: &str, after: &str) {
        let top = self.0.dir.path().display();
        let body = format!("TOP={top}\n{before}\n(\n{EFIBOOTMGR}\n)\ncode=$?\n{after}\nexit $code");
        self.0.program("efibootmgr", &body);
    }
}

pub(crate) fn utf16(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().chain([0]);
    units.flat_map(u16::to_le_bytes).collect()
}

/// A node of a device path about media.
fn node(kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + data.len()).unwrap();
    [&[4, kind], length.to_le_bytes().as_slice(), data].concat()
}

/// A partition of a GPT.
fn hard_drive(uuid: &str) -> Vec<u8> {
    let digits: String = uuid.chars().filter(|c| *c != '-').collect();
    let byte = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap();
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let guid: Vec<u8> = order.into_iter().map(byte).collect();
    node(1, &[&[0; 20], guid.as_slice(), &[2, 2]].concat())
}

/// As the image for both slots has it.
pub(crate) const ENTRY: &str = "options root=PARTLABEL=rootfs-a ro\n";

pub(crate) fn efi_board() -> Board {
    let mut board = Board::new();
    let entries = board.at("esp/loader/entries");
    fs::create_dir_all(&entries).unwrap();
    fs::write(entries.join("avocado.conf"), ENTRY).unwrap();
    board.paths.os.mounted_boot = Some(board.at("esp"));
    board.paths.tools.efibootmgr = board.at("bin/efibootmgr");
    // The disk, and what udev and the table tell of its boot partitions.
    fs::write(board.partition("own"), "").unwrap();
    let boot = ["boot-a", "boot-b"];
    for (at, (uuid, label)) in UUIDS.into_iter().zip(boot).enumerate() {
        let link = board.paths.os.partition_uuids.join(uuid);
        symlink(board.partition(label), link).unwrap();
        fs::write(board.at(&format!("hd-{}", at + 1)), hard_drive(uuid)).unwrap();
    }
    let firmware = Firmware(&board);
    firmware.efibootmgr("", "");
    for ((number, label), uuid) in ENTRIES.into_iter().zip(boot).zip(UUIDS) {
        firmware.put_entry(number, label, uuid, SDBOOT);
    }
    firmware.put_entry(1, "Shell", OTHER_UUID, r"\shell.efi");
    // The entry of the other slot is not in the order: some firmware ignores it then.
    firmware.put_numbers("BootOrder", &[4, 1]);
    let slot = firmware.starts();
    board.starts(slot);
    board
}

/// How the slot of such a board is known.
pub(crate) fn by_uuid() -> Value {
    json!({"type": "sdboot-efi", "partitions": {UUIDS[0]: "a", UUIDS[1]: "b"}})
}

/// An OS for it, with these entries of the slots.
pub(crate) fn efi_bundle(build: &str, a: &str, b: &str) -> TestBundle {
    let action = json!({"type": "efibootmgr", "slot_entries": {"a": a, "b": b}});
    bundle(build, by_uuid(), action).with("/update/strategy", json!("sdboot-ab"))
}
