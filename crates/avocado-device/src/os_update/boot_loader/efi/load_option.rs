//! `EFI_LOAD_OPTION`: what an entry of the boot menu says.

use super::variables::{numbers, text};

/// The kind of a node of a device path that is about media, and of those the ones that count here.
const MEDIA: u8 = 4;
const HARD_DRIVE: u8 = 1;
const FILE: u8 = 4;

/// The kind of a signature of a partition: a GUID.
const GUID: u8 = 2;

/// `LOAD_OPTION_ACTIVE`.
const ACTIVE: u8 = 1;

/// An entry of the boot menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoadOption {
    /// What it is called.
    pub(super) label: String,
    /// The GUID of the partition that it starts from, in lower case. None: it names none.
    pub(super) partition: Option<String>,
    /// The file that it starts. None: it names none.
    pub(super) file: Option<String>,
    /// Whether firmware starts it: one that is not active is passed over.
    pub(super) is_active: bool,
    /// Whether it has data for what it starts: arguments of a kernel, say.
    pub(super) has_data: bool,
    /// All that follows the attributes.
    rest: Vec<u8>,
}

impl LoadOption {
    /// Reads the value of a variable. What is cut off says nothing.
    pub(super) fn parse(value: &[u8]) -> Self {
        // Four bytes of attributes and two of the length of the path, the label, the path, and data.
        let rest = value.get(4..).unwrap_or_default();
        let length = numbers(rest)
            .first()
            .map_or(0, |length| usize::from(*length));
        let after = rest.get(2..).unwrap_or_default();
        let units = numbers(after).iter().take_while(|unit| **unit != 0).count();
        let path = after.get(2 * (units + 1)..).unwrap_or_default();
        let has_data = path.len() > length;
        let path = path.get(..length).unwrap_or(path);
        let mut option = LoadOption {
            label: text(after),
            partition: None,
            file: None,
            is_active: value
                .first()
                .is_some_and(|attributes| attributes & ACTIVE != 0),
            has_data,
            rest: rest.to_vec(),
        };
        for (kind, data) in nodes(path) {
            match kind {
                (MEDIA, HARD_DRIVE) if option.partition.is_none() => option.partition = guid(data),
                (MEDIA, FILE) => {
                    let name = text(data);
                    option.file.get_or_insert_default().push_str(&name);
                }
                _ => {}
            }
        }
        option
    }

    /// Whether both start the same from the same place.
    pub(super) fn starts_as(&self, other: &LoadOption) -> bool {
        self.rest == other.rest
    }
}

/// The nodes of a device path: of what kind they are, and what they say.
fn nodes(path: &[u8]) -> impl Iterator<Item = ((u8, u8), &[u8])> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let [kind, detail, low, high, ..] = *rest else {
            return None;
        };
        let length = usize::from(u16::from_le_bytes([low, high]));
        let data = rest.get(4..length)?;
        rest = rest.get(length..)?;
        Some(((kind, detail), data))
    })
}

/// The GUID of a partition: its number, start and size, 16 bytes, the kind of the table, and of these bytes.
fn guid(hard_drive: &[u8]) -> Option<String> {
    if hard_drive.get(37) != Some(&GUID) {
        return None;
    }
    let bytes: [u8; 16] = hard_drive.get(20..36)?.try_into().ok()?;
    // The first three numbers begin with the lowest byte.
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    let ordered = [[d, c, b, a], [f, e, h, g]].concat();
    let mut text = String::new();
    for (at, byte) in ordered.iter().chain(&rest).enumerate() {
        if [4, 6, 8, 10].contains(&at) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `efibootmgr` makes it.
    fn option() -> Vec<u8> {
        let utf16 = |text: &str| -> Vec<u8> {
            let units = text.encode_utf16().chain([0]);
            units.flat_map(u16::to_le_bytes).collect()
        };
        let file = utf16(r"\EFI\BOOT\BOOTX64.EFI");
        let mut path = vec![4, 1, 42, 0, 2, 0, 0, 0];
        path.extend([7; 16]);
        path.extend([
            0x16, 0xb0, 0x21, 0x4d, 0x34, 0xb5, 0xc2, 0x45, 0xa9, 0xfb, 0x5c, 0x16, 0xe0, 0x91,
            0xfd, 0x2d, 2, 2,
        ]);
        path.extend([4, 4, (4 + file.len()) as u8, 0]);
        path.extend(file);
        path.extend([0x7f, 0xff, 4, 0]);
        let mut option = vec![1, 0, 0, 0, path.len() as u8, 0];
        option.extend(utf16("avocado-b"));
        option.extend(path);
        option
    }

    #[test]
    fn an_entry_says_its_label_its_partition_and_its_file() {
        let bytes = option();
        let read = LoadOption::parse(&bytes);
        assert_eq!(read.label, "avocado-b");
        assert_eq!(
            read.partition.as_deref(),
            Some("4d21b016-b534-45c2-a9fb-5c16e091fd2d")
        );
        assert_eq!(read.file.as_deref(), Some(r"\EFI\BOOT\BOOTX64.EFI"));
        assert!(read.is_active && !read.has_data);
        let mut other = bytes.clone();
        other[0] = 0;
        assert!(read.starts_as(&LoadOption::parse(&other)));
        assert!(!LoadOption::parse(&other).is_active);
        // What an entry carries besides is nothing of its path.
        other.extend([4, 4, 8, 0, 65, 0, 0, 0]);
        let with_data = LoadOption::parse(&other);
        assert_eq!(with_data.file, read.file);
        assert!(with_data.has_data);
        assert!(!read.starts_as(&with_data));
        // A partition of an MBR has no GUID.
        let mut of_mbr = bytes.clone();
        let at = bytes.windows(4).position(|w| w == [4, 1, 42, 0]).unwrap();
        of_mbr[at + 41] = 1;
        assert_eq!(LoadOption::parse(&of_mbr).partition, None);
    }

    #[test]
    fn one_that_is_cut_off_or_damaged_is_read_to_its_end() {
        let bytes = option();
        for end in 0..bytes.len() {
            let read = LoadOption::parse(&bytes[..end]);
            assert!("avocado-b".starts_with(&read.label));
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 3, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                LoadOption::parse(&damaged);
            }
        }
    }
}
