//! A disk that an image is written to: a card in a reader, or a stick.
//!
//! [`DiskDevice::find`] looks at it and refuses what is no disk or is in use, by what the kernel tells
//! (`kernel`); [`DiskDevice::fits`] what it is not meant for; [`DiskDevice::hold`] takes it, so that nothing
//! else does; [`HeldDisk::write`] writes and reads back (`image_copy`).

mod error;
mod held;
mod image_copy;
mod kernel;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, major, minor};

pub use self::error::DiskDeviceError;
pub use self::held::{HeldDisk, WrittenDisk};
use self::kernel::{DeviceDirectory, Usage};

/// The blocks that the partition table of an image counts in, in bytes.
const BLOCK: u64 = 512;

/// Where the kernel tells of disks.
#[derive(Debug, Clone)]
pub struct DiskDevicePaths {
    /// A directory with a link for each number of a device (sysfs).
    pub block_devices: PathBuf,
    /// What is mounted: `mountinfo` of proc(5).
    pub mounts: PathBuf,
    /// What is swapped to: `swaps` of proc(5).
    pub swaps: PathBuf,
    /// The nodes of devices.
    pub nodes: PathBuf,
}

impl Default for DiskDevicePaths {
    /// Of the running system.
    fn default() -> Self {
        DiskDevicePaths {
            block_devices: "/sys/dev/block".into(),
            mounts: "/proc/self/mountinfo".into(),
            swaps: "/proc/swaps".into(),
            nodes: "/dev".into(),
        }
    }
}

/// A whole disk of which nothing is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskDevice {
    node: PathBuf,
    /// Major and minor: the name may be given to another device.
    number: (u32, u32),
    /// Which of all the devices that ever had this number, where the kernel counts them.
    sequence: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    size: u64,
    partitions: usize,
    is_removable: bool,
    bus: Option<&'static str>,
}

impl DiskDevice {
    /// The disk of a node, which may be named by a link.
    ///
    /// # Errors
    /// Where it is no whole disk, cannot be written to, has no medium, or something of it is in use.
    pub fn find(paths: &DiskDevicePaths, path: &Path) -> Result<Self, DiskDeviceError> {
        let node = fs::canonicalize(path).map_err(DiskDeviceError::io("find", path))?;
        let metadata = fs::metadata(&node).map_err(DiskDeviceError::io("look at", &node))?;
        let kind = metadata.file_type();
        if !kind.is_block_device() {
            return Err(DiskDeviceError::NotADisk {
                path: path.to_owned(),
                is_file: kind.is_file() || kind.is_dir(),
            });
        }
        let number = metadata.rdev();
        let found = Self::numbered(paths, &node, (major(number), minor(number)))?;
        // Else this would be known when everything is built.
        rustix::fs::access(&node, Access::READ_OK | Access::WRITE_OK)
            .map_err(|e| DiskDeviceError::io("open", &node)(e.into()))?;
        Ok(found)
    }

    /// The disk with this number, major and minor, and this node.
    ///
    /// # Errors
    /// As of [`DiskDevice::find`], as far as the kernel tells it.
    pub fn numbered(
        paths: &DiskDevicePaths,
        node: &Path,
        number: (u32, u32),
    ) -> Result<Self, DiskDeviceError> {
        let path = || node.to_owned();
        let directory = DeviceDirectory::find(paths, number)
            .map_err(DiskDeviceError::io("find what the kernel tells of", node))?;
        if let Some(disk) = directory.disk() {
            let disk = paths.nodes.join(disk);
            return Err(DiskDeviceError::Partition { path: path(), disk });
        }
        if directory.is_optical() {
            return Err(DiskDeviceError::Optical(path()));
        }
        let size = directory
            .size()
            .map_err(DiskDeviceError::io("read the size of", node))?;
        if size == 0 {
            return Err(DiskDeviceError::NoMedium(path()));
        }
        match Usage::find(paths, &directory)? {
            Some(Usage::System(how)) => {
                return Err(DiskDeviceError::OfSystem { path: path(), how });
            }
            Some(Usage::Other { how, hint }) => {
                return Err(DiskDeviceError::InUse {
                    path: path(),
                    how,
                    hint,
                });
            }
            None => {}
        }
        if directory.flag("ro") {
            return Err(DiskDeviceError::ReadOnly(path()));
        }
        if let Some(block) = directory.number("queue/logical_block_size")
            && block != BLOCK
        {
            return Err(DiskDeviceError::BlockSize {
                path: path(),
                block,
            });
        }
        Ok(DiskDevice {
            node: path(),
            number,
            sequence: directory.text("diskseq"),
            model: directory.model(),
            serial: directory.serial(),
            size,
            partitions: directory.partitions().len(),
            is_removable: directory.flag("removable"),
            bus: directory.bus(),
        })
    }

    /// That an image of `length` bytes may go there: it has the room, and is a disk that comes and goes,
    /// or one that is not and `allow_fixed` says that it is meant.
    ///
    /// # Errors
    /// Where that is not so.
    pub fn fits(&self, length: Option<u64>, allow_fixed: bool) -> Result<(), DiskDeviceError> {
        let path = || self.node.clone();
        if !(allow_fixed || self.is_removable || self.bus.is_some()) {
            return Err(DiskDeviceError::Fixed(path()));
        }
        match length {
            Some(needed) if needed.div_ceil(BLOCK) > self.size / BLOCK => {
                Err(DiskDeviceError::TooSmall {
                    path: path(),
                    size: self.size,
                    needed,
                })
            }
            _ => Ok(()),
        }
    }

    /// Its node.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Vendor and model, as the device tells them.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Its serial number, as the device tells it.
    pub fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    /// How many partitions the kernel sees on it.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Whether its medium is taken out of it.
    pub fn is_removable(&self) -> bool {
        self.is_removable
    }

    /// `USB` or `MMC`, where it is there.
    pub fn bus(&self) -> Option<&'static str> {
        self.bus
    }
}

#[cfg(test)]
mod tests;
