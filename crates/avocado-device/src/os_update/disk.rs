//! Disks and their partitions, as the kernel tells of them (sysfs).
//!
//! A label is looked for here and not in `/dev/disk/by-partlabel`. There each label is one link, that of the
//! disk that came last: a card or a stick with the same image would be written.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use avocado_manifest::Name;
use rustix::fs::{major, minor};

use super::error::OsUpdateError;
use crate::error::FailureReason;
use crate::paths::DevicePaths;

/// Where the running system is mounted. A board may have its boot partitions on a disk of their own.
const SYSTEM: [&str; 4] = ["/", "/usr", "/boot", "/efi"];

/// Where the running operating system itself is.
const ROOT: [&str; 2] = ["/", "/usr"];

/// How many devices may lie on one another, as dm-crypt on LVM on RAID.
const LARGEST_STACK: usize = 8;

/// A disk, a partition, or what the kernel makes of them.
#[derive(Debug)]
struct BlockDevice {
    /// `8:2`
    number: String,
    /// Its node in `/dev`, `sda2`.
    name: String,
    /// Where sysfs describes it.
    directory: PathBuf,
    /// Its label, if it is a partition that has one.
    label: Option<String>,
    /// What partition of its disk it is, from 1.
    partition: Option<u32>,
    /// The number of the disk, if it is a partition.
    disk: Option<String>,
}

impl BlockDevice {
    /// None: it has gone meanwhile.
    fn read(root: &Path, number: &str) -> Option<Self> {
        let directory = fs::canonicalize(root.join(number)).ok()?;
        let text = |path: PathBuf| {
            let text = fs::read_to_string(path).ok()?;
            Some(text.trim().to_owned())
        };
        let event = text(directory.join("uevent"))?;
        let value = |key: &str| {
            let mut lines = event.lines().filter_map(|line| line.split_once('='));
            lines.find_map(|(of, value)| (of == key).then(|| value.to_owned()))
        };
        let partition = text(directory.join("partition")).and_then(|n| n.parse().ok());
        let disk = partition.and_then(|_: u32| text(directory.parent()?.join("dev")));
        Some(BlockDevice {
            number: number.to_owned(),
            name: value("DEVNAME")?,
            label: value("PARTNAME"),
            partition,
            disk,
            directory,
        })
    }
}

/// The partition of the running root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RootPartition {
    pub(super) label: Option<String>,
    pub(super) number: u32,
}

/// Where the partition of a label is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LabelledPlace {
    /// On a disk of the running system, or on the one that the bundle states.
    Here(PathBuf),
    /// On other disks alone: those of somebody else. Why it is none of them.
    Elsewhere(String),
    /// On none.
    Nowhere,
}

/// A partition, as programs that go by the table of its disk want it named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NumberedPartition {
    /// Its own node.
    pub(super) node: PathBuf,
    /// That of its disk.
    pub(super) disk: PathBuf,
    /// What partition of the disk it is, from 1.
    pub(super) number: u32,
}

/// All that there are.
#[derive(Debug)]
pub(super) struct BlockDevices<'a> {
    paths: &'a DevicePaths,
    all: Vec<BlockDevice>,
}

impl<'a> BlockDevices<'a> {
    /// Reads what the kernel tells.
    pub(super) fn read(paths: &'a DevicePaths) -> Result<Self, FailureReason> {
        let root = &paths.os.block_devices;
        let numbers = avocado_fs::file_names(root)?;
        let read = |number: &String| BlockDevice::read(root, number);
        Ok(BlockDevices {
            paths,
            all: numbers.iter().filter_map(read).collect(),
        })
    }

    /// The partition with a label, on a disk of the running system or on the `stated` one. Of several none
    /// is chosen.
    pub(super) fn labelled(
        &self,
        label: &Name,
        stated: Option<&Path>,
    ) -> Result<LabelledPlace, FailureReason> {
        let has_it = |device: &&BlockDevice| device.label.as_deref() == Some(label.as_str());
        let found: Vec<_> = self.all.iter().filter(has_it).collect();
        if found.is_empty() {
            return Ok(LabelledPlace::Nowhere);
        }
        let disks = OwnDisks::of(self, stated)?;
        let is_own = |device: &&&BlockDevice| disks.have(device);
        let own: Vec<_> = found.iter().filter(is_own).collect();
        match own.as_slice() {
            [one] => Ok(LabelledPlace::Here(self.checked_node(one)?)),
            [] => Ok(LabelledPlace::Elsewhere(format!(
                "the partition {label} is on no disk of the running system, nor on one that the bundle's \
                 layout states (`devpath` in the stone manifest), but elsewhere: {}",
                self.nodes(&found)
            ))),
            _ => Err(failed(format!(
                "the partition {label} is there more than once: {}; take out the disk that is not meant, or \
                 let the bundle state the right one (`devpath` in the stone manifest)",
                self.nodes(&found)
            ))),
        }
    }

    /// A partition of a disk of the running system, or of the `stated` one. None: this is no such.
    pub(super) fn numbered_partition(
        &self,
        node: &Path,
        stated: Option<&Path>,
    ) -> Result<Option<NumberedPartition>, FailureReason> {
        let Some(device) = self.at(node) else {
            return Ok(None);
        };
        let disk = device.disk.as_deref().and_then(|disk| self.numbered(disk));
        let Some((disk, number)) = disk.zip(device.partition) else {
            return Ok(None);
        };
        if !OwnDisks::of(self, stated)?.have(device) {
            return Ok(None);
        }
        Ok(Some(NumberedPartition {
            node: self.checked_node(device)?,
            disk: self.checked_node(disk)?,
            number,
        }))
    }

    /// The UUID of a partition in the table of its disk, in lower case, where udev tells it.
    pub(super) fn uuid(paths: &DevicePaths, node: &Path) -> Option<String> {
        let node = fs::canonicalize(node).ok()?;
        let links = &paths.os.partition_uuids;
        let is = |uuid: &String| fs::canonicalize(links.join(uuid)).is_ok_and(|of| of == node);
        let found = avocado_fs::file_names(links).ok()?.into_iter().find(is)?;
        Some(found.to_lowercase())
    }

    /// The disk that the root file system is on.
    pub(super) fn disk_of_root(&self) -> Result<PathBuf, FailureReason> {
        let disks = self.disks_of(&["/"])?;
        let disks = disks.into_iter().filter_map(|number| self.numbered(number));
        let disks: Vec<_> = disks.collect();
        let [disk] = disks.as_slice() else {
            return Err(OsUpdateError::Slot(
                "the disk of the root file system is not known; the bundle's layout should name it"
                    .into(),
            )
            .into());
        };
        self.checked_node(disk)
    }

    /// The partition that the root file system is on: its label, and its number on its disk. None: it is
    /// on none, or on several.
    pub(super) fn root(&self) -> Result<Option<RootPartition>, FailureReason> {
        let below = self.below(&["/"])?;
        let [device] = below.as_slice() else {
            return Ok(None);
        };
        Ok(device.partition.map(|number| RootPartition {
            label: device.label.clone(),
            number,
        }))
    }

    /// A partition of a disk by its number.
    pub(super) fn partition(&self, disk: &Path, number: u32) -> Result<PathBuf, FailureReason> {
        let missing = || {
            let disk = disk.display();
            FailureReason::from(OsUpdateError::Loader(format!(
                "{disk} has no partition {number}"
            )))
        };
        let of = &self.at(disk).ok_or_else(missing)?.number;
        let is = |d: &&BlockDevice| d.disk.as_ref() == Some(of) && d.partition == Some(number);
        self.checked_node(self.all.iter().find(is).ok_or_else(missing)?)
    }

    /// The disks with partitions that what is mounted at these places is on, by their numbers. A device
    /// without any (a loop device, memory) is none that has slots.
    fn disks_of<'s>(&'s self, mounted_at: &[&str]) -> Result<BTreeSet<&'s str>, FailureReason> {
        let below = self.below(mounted_at)?;
        let disk = |device: &'s BlockDevice| device.disk.as_ref().unwrap_or(&device.number);
        let has_partitions =
            |disk: &&String| self.all.iter().any(|d| d.disk.as_ref() == Some(*disk));
        let disks = below.into_iter().map(disk).filter(has_partitions);
        Ok(disks.map(String::as_str).collect())
    }

    /// Whether a disk is one that comes and goes: a card in a reader, or something at USB.
    fn is_plugged_in(&self, disk: &str) -> bool {
        let Some(disk) = self.numbered(disk) else {
            return false;
        };
        let removable = fs::read_to_string(disk.directory.join("removable"));
        let mut place = disk.directory.components();
        removable.is_ok_and(|text| text.trim() == "1")
            || place.any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"usb"))
    }

    /// The partitions and disks that what is mounted at these places is on.
    fn below<'s>(&'s self, mounted_at: &[&str]) -> Result<Vec<&'s BlockDevice>, FailureReason> {
        let mounts = &self.paths.os.mounts;
        let text = fs::read_to_string(mounts).map_err(FailureReason::file("read", mounts))?;
        let mut below = Vec::new();
        // proc(5): id, parent, major:minor, root, mount point, ..., "-", type, source.
        for line in text.lines() {
            let mut words = line.split(' ').skip(2);
            let (Some(number), Some(at)) = (words.next(), words.nth(1)) else {
                continue;
            };
            if !mounted_at.contains(&at) {
                continue;
            }
            let source = words.skip_while(|word| *word != "-").nth(2);
            // File systems that go by numbers of their own (btrfs) have it in their source.
            let of_source = || self.at(Path::new(source?));
            if let Some(device) = self.numbered(number).or_else(of_source) {
                self.descend(device, LARGEST_STACK, &mut below);
            }
        }
        Ok(below)
    }

    /// What a device is made of: what lies below dm-crypt, LVM, verity or RAID.
    fn descend<'s>(
        &'s self,
        device: &'s BlockDevice,
        depth: usize,
        into: &mut Vec<&'s BlockDevice>,
    ) {
        let slaves = device.directory.join("slaves");
        let slaves = avocado_fs::file_names(&slaves).unwrap_or_default();
        // What is a slash in a name of `/dev` is none in sysfs.
        let named = |name: &String| self.all.iter().find(|d| d.name == name.replace('!', "/"));
        let slaves: Vec<_> = slaves.iter().filter_map(named).collect();
        // What has its data and its metadata (a pool, verity) on one partition is on that one.
        let is_new = into.iter().all(|known| known.number != device.number);
        if (slaves.is_empty() || depth == 0) && is_new {
            into.push(device);
        }
        for slave in slaves.iter().filter(|_| depth > 0) {
            self.descend(slave, depth - 1, into);
        }
    }

    fn numbered(&self, number: &str) -> Option<&BlockDevice> {
        self.all.iter().find(|device| device.number == number)
    }

    /// The device of a node, which may be named by a link.
    fn at(&self, node: &Path) -> Option<&BlockDevice> {
        let nodes = fs::canonicalize(&self.paths.os.device_nodes).ok()?;
        let node = fs::canonicalize(node).ok()?;
        let name = node.strip_prefix(nodes).ok()?;
        self.all
            .iter()
            .find(|device| Path::new(&device.name) == name)
    }

    fn node(&self, device: &BlockDevice) -> PathBuf {
        self.paths.os.device_nodes.join(&device.name)
    }

    fn nodes(&self, devices: &[&BlockDevice]) -> String {
        let nodes = devices
            .iter()
            .map(|device| self.node(device).display().to_string());
        nodes.collect::<Vec<_>>().join(", ")
    }

    /// The node of a device, which has to be that of this device: names are given again.
    fn checked_node(&self, device: &BlockDevice) -> Result<PathBuf, FailureReason> {
        let node = self.node(device);
        let meta = fs::metadata(&node).map_err(FailureReason::file("read", &node))?;
        let number = format!("{}:{}", major(meta.rdev()), minor(meta.rdev()));
        let is_device = meta.file_type().is_block_device();
        if !is_device && !self.paths.os.files_are_nodes {
            return Err(failed(format!(
                "{} is no block device: something was written in its place",
                node.display()
            )));
        }
        if is_device && number != device.number {
            return Err(failed(format!(
                "{} is {number}, and should be {}",
                node.display(),
                device.number
            )));
        }
        Ok(node)
    }
}

/// The disks that may be written: those of the running system, and the one that a bundle states.
struct OwnDisks<'a> {
    devices: &'a BlockDevices<'a>,
    numbers: BTreeSet<&'a str>,
    /// Where the root is no partition (an overlay, memory, a loop device) nothing tells but that there is
    /// one alone, on a disk that nobody plugs in.
    any: bool,
}

impl<'a> OwnDisks<'a> {
    fn of(devices: &'a BlockDevices<'a>, stated: Option<&Path>) -> Result<Self, FailureReason> {
        let mut numbers = devices.disks_of(&SYSTEM)?;
        let any = devices.disks_of(&ROOT)?.is_empty() && stated.is_none();
        numbers.extend(stated.and_then(|path| Some(devices.at(path)?.number.as_str())));
        Ok(OwnDisks {
            devices,
            numbers,
            any,
        })
    }

    /// Whether a partition is on one of them.
    fn have(&self, partition: &BlockDevice) -> bool {
        partition.disk.as_deref().is_some_and(|disk| {
            self.numbers.contains(disk) || self.any && !self.devices.is_plugged_in(disk)
        })
    }
}

fn failed(why: String) -> FailureReason {
    OsUpdateError::Partition(why).into()
}
