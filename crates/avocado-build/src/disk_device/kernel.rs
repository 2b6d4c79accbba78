//! What the kernel tells of a disk: sysfs, what is mounted, what is swapped to.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{DiskDeviceError, DiskDevicePaths};

/// Where the running system is mounted.
const SYSTEM: [&str; 8] = [
    "/",
    "/usr",
    "/var",
    "/home",
    "/boot",
    "/boot/efi",
    "/boot/firmware",
    "/efi",
];

/// The unit of the kernel's sizes of disks, in bytes, whatever the disk has.
const KERNEL_SECTOR: u64 = 512;

/// What SCSI calls drives for discs.
const SCSI_OPTICAL: u64 = 5;

/// Where sysfs describes a device.
#[derive(Debug)]
pub(super) struct DeviceDirectory(PathBuf);

impl DeviceDirectory {
    pub(super) fn find(paths: &DiskDevicePaths, (major, minor): (u32, u32)) -> io::Result<Self> {
        let link = paths.block_devices.join(format!("{major}:{minor}"));
        fs::canonicalize(link).map(DeviceDirectory)
    }

    /// The content of a file in it.
    pub(super) fn text(&self, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.0.join(file)).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    pub(super) fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.parse().ok()
    }

    pub(super) fn flag(&self, file: &str) -> bool {
        self.number(file) == Some(1)
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> io::Result<u64> {
        let text = fs::read_to_string(self.0.join("size"))?;
        let sectors: Option<u64> = text.trim().parse().ok();
        sectors
            .and_then(|sectors| sectors.checked_mul(KERNEL_SECTOR))
            .ok_or_else(|| io::Error::other(format!("the size is `{}`", text.escape_debug())))
    }

    /// Its node below `/dev`. What is a slash there is none in sysfs.
    fn name(&self) -> String {
        let name = self.0.file_name().unwrap_or_default();
        name.to_string_lossy().replace('!', "/")
    }

    /// The node of the disk that it is a part of: a partition, or one of the boot parts of an eMMC.
    pub(super) fn disk(&self) -> Option<String> {
        let above = DeviceDirectory(self.0.parent()?.to_owned());
        let is_part = self.text("partition").is_some() || above.text("dev").is_some();
        is_part.then(|| above.name())
    }

    pub(super) fn is_optical(&self) -> bool {
        self.number("device/type") == Some(SCSI_OPTICAL)
    }

    /// Its parts.
    pub(super) fn partitions(&self) -> Vec<DeviceDirectory> {
        let parts = entries(&self.0).into_iter().map(DeviceDirectory);
        parts.filter(|part| part.text("dev").is_some()).collect()
    }

    /// What the kernel made of it: dm-crypt, LVM, RAID.
    fn holders(&self) -> Vec<DeviceDirectory> {
        let links = entries(&self.0.join("holders")).into_iter();
        let found = links.filter_map(|link| fs::canonicalize(link).ok());
        found.map(DeviceDirectory).collect()
    }

    pub(super) fn model(&self) -> Option<String> {
        // A card has one name; a disk has the name of its maker beside that.
        let files = ["device/vendor", "device/model", "device/name"];
        let words = files.iter().filter_map(|file| self.text(file));
        // Numbers of makers (`0x1af4`) say nothing to people.
        let words: Vec<String> = words.filter(|word| !word.starts_with("0x")).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    pub(super) fn serial(&self) -> Option<String> {
        if let Some(serial) = self.text("device/serial").or_else(|| self.text("serial")) {
            return Some(serial);
        }
        // That of a stick is the one of its USB device.
        let above = self.0.ancestors().skip(1);
        let mut usb = above.filter(|place| place.join("idVendor").exists());
        DeviceDirectory(usb.next()?.to_owned()).text("serial")
    }

    /// Where a disk that comes and goes is.
    pub(super) fn bus(&self) -> Option<&'static str> {
        self.0.components().find_map(|part| {
            let part = part.as_os_str().to_str()?;
            let is_usb = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
            match part {
                "mmc_host" => Some("MMC"),
                part => part
                    .strip_prefix("usb")
                    .is_some_and(is_usb)
                    .then_some("USB"),
            }
        })
    }

    /// What it is, where it was made of another device, and what ends that.
    fn made(&self) -> (String, String) {
        let node = self.name();
        let name = self.text("dm/name");
        let uuid = self.text("dm/uuid").unwrap_or_default();
        let shown = name.as_deref().unwrap_or(&node).escape_debug().to_string();
        if uuid.starts_with("CRYPT-") {
            (
                format!("encrypted data on it are open as `{shown}`"),
                format!("close them: cryptsetup close {shown}"),
            )
        } else if uuid.starts_with("LVM-") {
            (
                format!("the volume `{shown}` of LVM is on it"),
                "deactivate its group: vgchange --activate n GROUP".to_owned(),
            )
        } else if node.starts_with("md") {
            (
                format!("it is in the RAID {node}"),
                format!("stop that: mdadm --stop /dev/{node}"),
            )
        } else {
            (
                format!("`{shown}` is made of it"),
                "remove that first; `lsblk` shows what is made of what".to_owned(),
            )
        }
    }
}

/// Everything that is in a directory, by name; nothing where there is none.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// How something of a disk is in use.
#[derive(Debug)]
pub(super) enum Usage {
    /// The running system is on it.
    System(String),
    Other {
        how: String,
        hint: String,
    },
}

impl Usage {
    /// How it is in use; none if it is not, as far as this is told of.
    pub(super) fn find(
        paths: &DiskDevicePaths,
        disk: &DeviceDirectory,
    ) -> Result<Option<Self>, DiskDeviceError> {
        let family = Family::of(disk);
        let mounts = fs::read_to_string(&paths.mounts);
        let mounts = mounts.map_err(DiskDeviceError::io("read", &paths.mounts))?;
        let mounted = family.mounted_at(paths, &mounts);
        if let Some(place) = mounted.iter().find(|at| SYSTEM.contains(&at.as_str())) {
            return Ok(Some(Usage::System(format!("{place} is on it"))));
        }
        let other = |how, hint| Ok(Some(Usage::Other { how, hint }));
        if !mounted.is_empty() {
            let mounted = mounted.join(" ");
            let hint = format!("unmount it: umount {mounted}");
            return other(format!("it is mounted at {mounted}"), hint);
        }
        // There are kernels that do not swap.
        let swaps = fs::read_to_string(&paths.swaps).unwrap_or_default();
        if let Some(swap) = family.swap(paths, &swaps) {
            return other(
                format!("it is swapped to ({swap})"),
                format!("end that: swapoff {swap}"),
            );
        }
        if let Some(device) = family.loop_device(paths) {
            return other(
                format!("it is what {device} is made of"),
                format!("detach that: losetup --detach {device}"),
            );
        }
        Ok(family.made.map(|(how, hint)| Usage::Other { how, hint }))
    }
}

/// A disk, its parts, and what is made of these.
#[derive(Debug, Default)]
struct Family {
    /// `8:17`
    numbers: BTreeSet<String>,
    /// Nodes below `/dev`.
    names: BTreeSet<String>,
    /// What is made of it, and what ends that.
    made: Option<(String, String)>,
}

impl Family {
    fn of(disk: &DeviceDirectory) -> Self {
        let mut family = Family::default();
        family.add(disk);
        family
    }

    fn add(&mut self, device: &DeviceDirectory) {
        if !self.names.insert(device.name()) {
            return;
        }
        self.numbers.extend(device.text("dev"));
        for holder in device.holders() {
            self.add(&holder);
            // What is made of that has to be ended first, and is known already.
            self.made.get_or_insert_with(|| holder.made());
        }
        for part in device.partitions() {
            self.add(&part);
        }
    }

    fn has_node(&self, paths: &DiskDevicePaths, node: &str) -> bool {
        let node = Path::new(node);
        let real = fs::canonicalize(node);
        let name = real.as_deref().unwrap_or(node).strip_prefix(&paths.nodes);
        name.is_ok_and(|name| self.names.iter().any(|n| Path::new(n) == name))
    }

    /// Where something of it is mounted.
    fn mounted_at(&self, paths: &DiskDevicePaths, mounts: &str) -> Vec<String> {
        // proc(5): id, parent, major:minor, root, mount point, ..., "-", type, source.
        let places = mounts.lines().filter_map(|line| {
            let mut words = line.split(' ').skip(2);
            let number = words.next()?;
            let at = words.nth(1)?;
            // File systems that go by numbers of their own (btrfs) have it in their source.
            let source = words.skip_while(|word| *word != "-").nth(2);
            let is_of_it = self.numbers.contains(number)
                || source.is_some_and(|source| self.has_node(paths, source));
            is_of_it.then(|| at.to_owned())
        });
        places.collect()
    }

    fn swap<'s>(&self, paths: &DiskDevicePaths, swaps: &'s str) -> Option<&'s str> {
        let files = swaps.lines().skip(1);
        let mut files = files.filter_map(|line| line.split_whitespace().next());
        files.find(|file| self.has_node(paths, file))
    }

    /// The node of a loop device that reads or writes it.
    fn loop_device(&self, paths: &DiskDevicePaths) -> Option<String> {
        let all = entries(&paths.block_devices).into_iter();
        let mut all = all.filter_map(|link| fs::canonicalize(link).ok());
        all.find_map(|directory| {
            let device = DeviceDirectory(directory);
            let of = device.text("loop/backing_file")?;
            let node = paths.nodes.join(device.name());
            self.has_node(paths, &of)
                .then(|| node.display().to_string())
        })
    }
}
