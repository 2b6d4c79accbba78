//! The firmware of a Raspberry Pi: `autoboot.txt` in the first boot partition says from which
//! partition it boots (`[all]`), and from which one once, when the reboot asks for it (`[tryboot]`).
//!
//! Only the digits change, and their number stays. So the file keeps its place and its length, and a
//! change is one sector: a cut leaves the old choice or the new one, which a rename on FAT does not.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use avocado_fs::AtPath;
use avocado_fs::recorded::RecordedFile;
use avocado_manifest::os_bundle::{BySlot, OsSlot};

use super::{LoaderOrder, failed};
use crate::error::FailureReason;
use crate::os_update::disk::BlockDevices;
use crate::os_update::partition;
use crate::paths::DevicePaths;
use crate::store::files;

/// What the reboot has to carry, so that the firmware tries the other partition (Raspberry Pi
/// documentation, `autoboot.txt`).
pub(in crate::os_update) const REBOOT_ARGUMENT: &str = "0 tryboot";

const FILE: &str = "autoboot.txt";

/// The number of the partition that the firmware reads it from.
const FIRST: u32 = 1;

/// What a disk writes at once, in bytes: the file must not be larger.
const SECTOR: u64 = 512;

/// The number of the partition that the firmware booted from.
pub(super) fn booted_partition(paths: &DevicePaths) -> Result<u32, FailureReason> {
    let path = paths.os.device_tree.join("chosen/bootloader/partition");
    let bytes = fs::read(&path).map_err(FailureReason::file("read", &path))?;
    let number = bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    number.ok_or_else(|| failed(format!("{} is no number", path.display())))
}

/// Tells the firmware something about a slot.
pub(super) fn tell(
    paths: &DevicePaths,
    disk: Option<&str>,
    partitions: &BySlot<u32>,
    order: LoaderOrder,
    slot: OsSlot,
) -> Result<(), FailureReason> {
    let usual = match order {
        // What is tried is tried by the reboot that asks for it.
        LoaderOrder::Try => slot.other(),
        LoaderOrder::Keep | LoaderOrder::GoBack => slot,
    };
    let (all, tryboot) = (*partitions.get(usual), *partitions.get(usual.other()));
    in_first_partition(paths, disk, |directory| {
        let path = directory.join(FILE);
        let text = read(&path)?;
        let wanted = with_partitions(&text, all, tryboot).map_err(|why| in_file(&path, &why))?;
        if wanted == text {
            return Ok(());
        }
        let file = RecordedFile::open(&path).at("open", &path)?;
        file.write_at(0, wanted.as_bytes()).at("write", &path)?;
        file.sync().at("write", &path)?;
        Ok(())
    })
}

/// Whether [`tell`] could be done.
pub(super) fn check(
    paths: &DevicePaths,
    disk: Option<&str>,
    partitions: &BySlot<u32>,
) -> Result<(), FailureReason> {
    in_first_partition(paths, disk, |directory| {
        let path = directory.join(FILE);
        let text = read(&path)?;
        let (first, second) = (partitions.first, partitions.second);
        with_partitions(&text, first, second).map_err(|why| in_file(&path, &why))?;
        with_partitions(&text, second, first).map_err(|why| in_file(&path, &why))?;
        Ok(())
    })
}

fn read(path: &Path) -> Result<String, FailureReason> {
    let bytes = files::read(path, SECTOR)?;
    String::from_utf8(bytes).map_err(|_| in_file(path, "it is no text"))
}

fn in_file(path: &Path, why: &str) -> FailureReason {
    failed(format!("{}: {why}", path.display()))
}

/// The file with other numbers.
fn with_partitions(text: &str, all: u32, tryboot: u32) -> Result<String, String> {
    let mut wanted = text.to_owned();
    let mut both = [("[all]", all), ("[tryboot]", tryboot)].map(|(section, number)| {
        let place = place(text, section)
            .ok_or_else(|| format!("it has no `boot_partition` below `{section}`"))?;
        let width = place.len();
        let digits = format!("{number:0width$}");
        if digits.len() != width {
            return Err(format!(
                "`boot_partition` below `{section}` has room for {width} digits; write it with \
                 leading zeros once"
            ));
        }
        Ok((place, digits))
    });
    for one in &mut both {
        let (place, digits) = std::mem::replace(one, Err(String::new()))?;
        wanted.replace_range(place, &digits);
    }
    Ok(wanted)
}

/// Where the digits of a section's `boot_partition` are. The last one counts.
fn place(text: &str, section: &str) -> Option<Range<usize>> {
    let (mut at, mut current, mut found) = (0, "[all]", None);
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            current = trimmed;
        } else if let Some(digits) = trimmed.strip_prefix("boot_partition=") {
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            if current == section && is_number {
                let start = at + line.find(digits)?;
                found = Some(start..start + digits.len());
            }
        }
        at += line.len();
    }
    found
}

/// Calls `work` with the directory of the first boot partition.
fn in_first_partition<T>(
    paths: &DevicePaths,
    disk: Option<&str>,
    work: impl FnOnce(&Path) -> Result<T, FailureReason>,
) -> Result<T, FailureReason> {
    let device = match (&paths.os.mounted_boot, disk) {
        // It is not looked for then.
        (Some(_), _) => PathBuf::new(),
        (None, disk) => {
            let devices = BlockDevices::read(paths)?;
            let disk = disk.map_or_else(|| devices.disk_of_root(), |disk| Ok(disk.into()));
            devices.partition(&disk?, FIRST)?
        }
    };
    partition::with_boot_files(paths, &device, work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    use avocado_fs::crash::{Disk, Recorder};

    const USUAL: &str = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";

    #[test]
    fn only_the_digits_change() {
        let swapped = with_partitions(USUAL, 3, 2).unwrap();
        assert_eq!(
            swapped,
            "[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=2\n"
        );
        assert_eq!(with_partitions(&swapped, 2, 3).unwrap(), USUAL);
        // What else is there stays, and leading zeros are room.
        let own = "# mine\r\nboot_partition=02\r\n[tryboot]\r\nboot_partition=10\r\n";
        assert_eq!(
            with_partitions(own, 10, 2).unwrap(),
            "# mine\r\nboot_partition=10\r\n[tryboot]\r\nboot_partition=02\r\n"
        );
    }

    #[test]
    fn files_that_would_change_their_length_are_refused() {
        for (text, all, why) in [
            ("", 2, "below `[all]`"),
            ("[all]\nboot_partition=2\n", 2, "below `[tryboot]`"),
            ("[tryboot]\nboot_partition=2\n", 2, "below `[all]`"),
            (
                "boot_partition=x\n[tryboot]\nboot_partition=2\n",
                2,
                "below `[all]`",
            ),
            (USUAL, 10, "room for 1 digits"),
        ] {
            let error = with_partitions(text, all, 3).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    /// Each state that a cut can leave, in sectors of 512 bytes, has the old choice or the new one.
    #[test]
    fn a_torn_change_leaves_one_of_both_choices() {
        let dir = tempfile::tempdir().unwrap();
        let boot = dir.path().join("boot");
        fs::create_dir(&boot).unwrap();
        fs::write(boot.join(FILE), USUAL).unwrap();
        let mut paths = DevicePaths::new(dir.path());
        paths.os.mounted_boot = Some(boot.clone());
        let partitions = BySlot {
            first: 2,
            second: 3,
        };
        check(&paths, None, &partitions).unwrap();
        let swapped = with_partitions(USUAL, 3, 2).unwrap();
        for (order, slot, wanted) in [
            (LoaderOrder::GoBack, OsSlot::First, USUAL),
            (LoaderOrder::Try, OsSlot::Second, USUAL),
            (LoaderOrder::Keep, OsSlot::Second, &swapped),
            (LoaderOrder::GoBack, OsSlot::First, USUAL),
        ] {
            let before = fs::read_to_string(boot.join(FILE)).unwrap();
            let mut left = Disk::of(&boot);
            let work = || tell(&paths, None, &partitions, order, slot);
            let (result, ops) = Recorder::new(&boot).run(work);
            result.unwrap();
            let mut seen = HashSet::new();
            let mut look = |left: &Disk| {
                left.crash(100, &mut || 4, |state| {
                    let place = tempfile::tempdir().unwrap();
                    state.restore(place.path());
                    seen.insert(fs::read_to_string(place.path().join(FILE)).unwrap());
                });
            };
            look(&left);
            for op in &ops {
                left.apply(op);
                look(&left);
            }
            let both: HashSet<_> = [before, wanted.to_owned()].into();
            assert_eq!(seen, both, "{order:?}");
            assert_eq!(fs::read_to_string(boot.join(FILE)).unwrap(), wanted);
        }
    }

    #[test]
    fn the_firmware_says_from_where_it_booted() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = DevicePaths::new(dir.path());
        paths.os.device_tree = dir.path().to_owned();
        assert!(booted_partition(&paths).is_err());
        let place = dir.path().join("chosen/bootloader");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("partition"), [0, 0, 0, 3]).unwrap();
        assert_eq!(booted_partition(&paths).unwrap(), 3);
        fs::write(place.join("partition"), [3]).unwrap();
        assert!(booted_partition(&paths).is_err());
    }
}
