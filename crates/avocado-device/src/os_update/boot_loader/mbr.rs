//! A partition table in the first sector of a disk (MBR): bytes 446 to 509 are four entries of 16
//! bytes, 510 and 511 the mark `55 aa`. The sector is written as a whole, so a cut leaves the old table
//! or the new one.

use std::path::Path;

use avocado_fs::AtPath;
use avocado_fs::recorded::RecordedFile;
use avocado_manifest::Name;
use avocado_manifest::os_bundle::{BySlot, DISK_SECTOR, DiskLayout, OsSlot};

use super::failed;
use crate::error::FailureReason;
use crate::os_update::partition;

const TABLE: usize = 446;
const ENTRY: usize = 16;
const MARK: [u8; 2] = [0x55, 0xaa];

/// FAT32 with LBA, for partitions whose name begins with `boot` (published agents).
const FAT: u8 = 0x0c;
const LINUX: u8 = 0x83;
/// Where cylinders, heads and sectors cannot say it.
const BEYOND_CHS: [u8; 3] = [0xfe, 0xff, 0xff];

/// Writes the table of a slot.
pub(super) fn switch(
    disk: &Path,
    layout: Option<&DiskLayout>,
    names: &[Name],
) -> Result<(), FailureReason> {
    let file = RecordedFile::open_device(disk).at("open", disk)?;
    let (sector, wanted) = table(disk, layout, names)?;
    if sector == wanted {
        return Ok(());
    }
    file.write_at(0, &wanted).at("write", disk)?;
    file.sync().at("write", disk)?;
    if partition::read_start(disk)? != wanted {
        return Err(failed(format!(
            "the partition table of {} is not what was written to it",
            disk.display()
        )));
    }
    Ok(())
}

/// Whether [`switch`] could be done for either slot, and loses nothing: the table that is there has to be
/// that of one of them.
pub(super) fn check(
    disk: &Path,
    layout: Option<&DiskLayout>,
    names: &BySlot<Vec<Name>>,
) -> Result<(), FailureReason> {
    let mut known = false;
    for slot in OsSlot::ALL {
        let names = names.get(slot);
        let (sector, wanted) = table(disk, layout, names)?;
        let grows = |name: &Name| layout?.partition(name).map(|place| place.expand);
        let grows: Vec<_> = names.iter().map(|name| grows(name) == Some(true)).collect();
        known |= are_same_places(&sector, &wanted, &grows);
    }
    if known {
        return Ok(());
    }
    Err(failed(format!(
        "the partition table of {} is that of neither slot in the bundle's layout: what is in it besides \
         would be lost",
        disk.display()
    )))
}

/// Whether two tables have the same partitions. What they say of them besides differs by the program that
/// made them, and how large one is that grows.
fn are_same_places(sector: &[u8; 512], wanted: &[u8; 512], grows: &[bool]) -> bool {
    let entries = |sector: &[u8; 512]| -> Vec<[u32; 2]> {
        let table = sector.get(TABLE..TABLE + 4 * ENTRY).unwrap_or_default();
        let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
        let entry = |entry: &[u8]| [8, 12].map(|at| number(entry.get(at..).unwrap_or_default()));
        table.chunks_exact(ENTRY).map(entry).collect()
    };
    let pairs = entries(sector).into_iter().zip(entries(wanted));
    pairs.enumerate().all(|(at, (found, wanted))| {
        found[0] == wanted[0]
            && (found[1] == wanted[1] || (grows.get(at) == Some(&true) && found[1] < wanted[1]))
    })
}

/// The sector that is there, and the one that is wanted.
fn table(
    disk: &Path,
    layout: Option<&DiskLayout>,
    names: &[Name],
) -> Result<([u8; 512], [u8; 512]), FailureReason> {
    let layout = layout.ok_or_else(|| failed("the bundle has no layout of the disk"))?;
    let length = partition::length(disk)?;
    let sector: [u8; 512] = partition::read_start(disk)?;
    let wanted = with_partitions(&sector, layout, names, length)
        .map_err(|why| failed(format!("the partition table of {}: {why}", disk.display())))?;
    Ok((sector, wanted))
}

/// The sector with the entries of these partitions.
fn with_partitions(
    sector: &[u8; 512],
    layout: &DiskLayout,
    names: &[Name],
    length: u64,
) -> Result<[u8; 512], String> {
    if !sector.ends_with(&MARK) {
        return Err("the disk has none; it is not made anew".into());
    }
    let mut entries = [0; 4 * ENTRY];
    for (number, name) in names.iter().enumerate() {
        let place = layout.partition(name);
        let place = place.ok_or_else(|| format!("the layout has no partition {name}"))?;
        if names.iter().take(number).any(|other| other == name) {
            return Err(format!("{name} would be in it twice"));
        }
        let range = layout.range(place, length);
        let range = range.map_err(|fault| format!("{name}: {fault}"))?;
        let sectors = |bytes: u64| {
            u32::try_from(bytes / DISK_SECTOR).map_err(|_| format!("{name} is beyond 2 TiB"))
        };
        let kind = if name.as_str().starts_with("boot") {
            FAT
        } else {
            LINUX
        };
        let entry = [
            &[if number == 0 { 0x80 } else { 0 }],
            BEYOND_CHS.as_slice(),
            &[kind],
            BEYOND_CHS.as_slice(),
            &sectors(range.start)?.to_le_bytes(),
            &sectors(range.end - range.start)?.to_le_bytes(),
        ]
        .concat();
        let into = entries.chunks_exact_mut(ENTRY).nth(number);
        into.ok_or("a table has four places")?
            .copy_from_slice(&entry);
    }
    let mut wanted = *sector;
    wanted[TABLE..TABLE + entries.len()].copy_from_slice(&entries);
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::fs;

    use avocado_fs::crash::{Disk, Recorder};
    use avocado_manifest::os_bundle::LayoutPartition;

    const MIB: u64 = 1 << 20;

    fn layout(places: &[(&str, u64, u64, bool)]) -> DiskLayout {
        let partitions = places
            .iter()
            .map(|(name, offset, size, expand)| LayoutPartition {
                name: Some(name.parse().unwrap()),
                offset: *offset,
                size: *size,
                expand: *expand,
            });
        DiskLayout {
            device: None,
            block_size: None,
            partitions: partitions.collect(),
        }
    }

    fn usual() -> DiskLayout {
        layout(&[
            ("boot-a", MIB, MIB, false),
            ("boot-b", 2 * MIB, MIB, false),
            ("rootfs-a", 3 * MIB, MIB, false),
            ("rootfs-b", 4 * MIB, MIB, false),
            ("var", 5 * MIB, MIB, true),
        ])
    }

    fn names(names: &[&str]) -> Vec<Name> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// A sector with code, a signature, and an empty table.
    fn sector() -> [u8; 512] {
        let mut sector = [0; 512];
        sector[..440].fill(0xeb);
        sector[440..446].copy_from_slice(b"DISK\0\0");
        sector[510..].copy_from_slice(&MARK);
        sector
    }

    #[test]
    fn a_table_has_the_partitions_of_its_slot_and_nothing_else_changes() {
        let b = names(&["boot-b", "rootfs-b", "var"]);
        let wanted = with_partitions(&sector(), &usual(), &b, 10 * MIB + 100).unwrap();
        assert_eq!(wanted[..446], sector()[..446]);
        assert_eq!(wanted[510..], MARK);
        let entry = |n: usize| &wanted[446 + 16 * n..446 + 16 * (n + 1)];
        let lba =
            |n: usize, at: usize| u32::from_le_bytes(entry(n)[at..at + 4].try_into().unwrap());
        let read: Vec<_> = (0..4)
            .map(|n| (entry(n)[0], entry(n)[4], lba(n, 8), lba(n, 12)))
            .collect();
        assert_eq!(
            read,
            [
                (0x80, FAT, 4096, 2048),
                (0, LINUX, 8192, 2048),
                (0, LINUX, 10240, 10240),
                (0, 0, 0, 0)
            ]
        );
    }

    #[test]
    fn tables_that_would_lose_something_are_refused() {
        let plain = sector();
        for (places, chosen, why) in [
            (
                layout(&[("boot-a", 0, MIB, false)]),
                vec!["boot-a"],
                "over the partition table",
            ),
            (
                layout(&[("boot-a", 511, MIB, false)]),
                vec!["boot-a"],
                "over the partition table",
            ),
            (
                layout(&[("boot-a", MIB, 700, false)]),
                vec!["boot-a"],
                "multiples of the block size",
            ),
            (
                layout(&[("boot-a", MIB, 0, false)]),
                vec!["boot-a"],
                "needs a size",
            ),
            (
                layout(&[("boot-a", MIB, 10 * MIB, false)]),
                vec!["boot-a"],
                "does not fit",
            ),
            (
                layout(&[("boot-a", MIB, 2 * MIB, false), ("x", 2 * MIB, MIB, false)]),
                vec!["boot-a", "x"],
                "boot-a: it lies over another partition, x",
            ),
            (
                layout(&[("var", MIB, MIB, true), ("x", 5 * MIB, MIB, false)]),
                vec!["var", "x"],
                "over another partition, x",
            ),
            (
                usual(),
                vec!["boot-a", "boot-a"],
                "boot-a would be in it twice",
            ),
            (usual(), vec!["layout-a.json"], "no partition layout-a.json"),
        ] {
            let error = with_partitions(&plain, &places, &names(&chosen), 10 * MIB).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let error = with_partitions(&[0; 512], &usual(), &names(&["boot-a"]), 10 * MIB);
        assert!(error.unwrap_err().contains("has none"));
    }

    #[test]
    fn a_table_that_is_of_neither_slot_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        let both = BySlot {
            first: names(&["boot-a", "rootfs-a", "var"]),
            second: names(&["boot-b", "rootfs-b", "var"]),
        };
        let of = |names: &[Name]| with_partitions(&sector(), &usual(), names, 10 * MIB).unwrap();
        let put = |sector: &[u8; 512]| {
            let mut bytes = vec![0; 10 << 20];
            bytes[..512].copy_from_slice(sector);
            fs::write(&disk, &bytes).unwrap();
            check(&disk, Some(&usual()), &both)
        };
        put(&of(&both.first)).unwrap();
        let mut made_by_others = of(&both.second);
        // Cylinders, a type, and a partition that did not grow yet.
        made_by_others[447..451].copy_from_slice(&[1, 2, 3, 0x0b]);
        made_by_others[490..494].copy_from_slice(&2048_u32.to_le_bytes());
        put(&made_by_others).unwrap();
        let mut fourth = of(&both.first);
        fourth[446 + 48..446 + 64].copy_from_slice(&of(&both.second)[446..462]);
        let mut moved = of(&both.first);
        moved[446 + 16 + 8] ^= 1;
        for other in [fourth, moved, sector()] {
            let before = put(&other).unwrap_err();
            assert!(before.to_string().contains("of neither slot"), "{before}");
            assert_eq!(fs::read(&disk).unwrap()[..512], other);
        }
    }

    /// Each state that a cut can leave, in sectors of 512 bytes, has the old table or the new one.
    #[test]
    fn a_torn_switch_leaves_one_of_both_tables() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        let mut bytes = vec![7; 10 << 20];
        let (a, b) = (
            names(&["boot-a", "rootfs-a", "var"]),
            names(&["boot-b", "rootfs-b", "var"]),
        );
        let old = with_partitions(&sector(), &usual(), &a, 10 * MIB).unwrap();
        let new = with_partitions(&sector(), &usual(), &b, 10 * MIB).unwrap();
        bytes[..512].copy_from_slice(&old);
        fs::write(&disk, &bytes).unwrap();
        let mut left = Disk::of(dir.path());
        let (result, ops) = Recorder::new(dir.path()).run(|| switch(&disk, Some(&usual()), &b));
        result.unwrap();
        let mut seen = HashSet::new();
        let mut look = |left: &Disk| {
            left.crash(100, &mut || 4, |state| {
                let place = tempfile::tempdir().unwrap();
                state.restore(place.path());
                let bytes = fs::read(place.path().join("disk")).unwrap();
                assert!(bytes[..512] == old || bytes[..512] == new);
                assert!(bytes[512..].iter().all(|byte| *byte == 7));
                seen.insert(bytes[..512] == new);
            });
        };
        look(&left);
        for op in &ops {
            left.apply(op);
            look(&left);
        }
        assert_eq!(seen.len(), 2);
        assert_eq!(fs::read(&disk).unwrap()[..512], new);
        // Again it is not even written.
        let (_, ops) = Recorder::new(dir.path()).run(|| switch(&disk, Some(&usual()), &b));
        assert!(ops.is_empty());
    }
}
