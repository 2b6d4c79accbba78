//! Why a disk was not written to, or not as it should be.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a disk was not written to, or not as it should be.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DiskDeviceError {
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// It is a file, or something that is written to in another way.
    #[error("{} is no disk: it is no block device", path.display())]
    NotADisk {
        /// What was named.
        path: PathBuf,
        /// Whether it is a file or a directory.
        is_file: bool,
    },
    /// It is a part of a disk, and the image is a whole one.
    #[error("{} is a part of {}, and the image is that of a whole disk", path.display(), disk.display())]
    Partition {
        /// What was named.
        path: PathBuf,
        /// The disk that it is of.
        disk: PathBuf,
    },
    /// What is written there is no disk.
    #[error("{} is an optical drive", .0.display())]
    Optical(PathBuf),
    /// A reader without a card.
    #[error("{} has no medium in it", .0.display())]
    NoMedium(PathBuf),
    /// The card has a lock.
    #[error("{} is write-protected", .0.display())]
    ReadOnly(PathBuf),
    /// The partition table would say other places there.
    #[error("{} has blocks of {block} bytes, and the partition table of the image is for blocks of 512", path.display())]
    BlockSize {
        /// Its node.
        path: PathBuf,
        /// The size of its blocks in bytes.
        block: u64,
    },
    /// The system runs from it.
    #[error("{} is a disk of the running system: {how}", path.display())]
    OfSystem {
        /// Its node.
        path: PathBuf,
        /// What is where.
        how: String,
    },
    /// Something of it is in use.
    #[error("{} is in use: {how}", path.display())]
    InUse {
        /// Its node.
        path: PathBuf,
        /// By what.
        how: String,
        /// What ends that.
        hint: String,
    },
    /// It may be the disk of a machine.
    #[error("{} is neither removable nor at USB or MMC", .0.display())]
    Fixed(PathBuf),
    /// The image has no room.
    #[error("{} has {size} bytes, and the image has {needed}", path.display())]
    TooSmall {
        /// Its node.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The size of the image in bytes.
        needed: u64,
    },
    /// The node is another device's, or its medium was changed.
    #[error("{} is another disk than it was a moment ago", .0.display())]
    Changed(PathBuf),
    /// The device does not keep what is written to it.
    #[error("{} does not have what was written to it: something else is read at byte {offset}", path.display())]
    ReadBack {
        /// Its node.
        path: PathBuf,
        /// The first byte that is another one.
        offset: u64,
    },
    /// It was asked to stop.
    #[error("stopped before all of {} was written and read back", .0.display())]
    Cancelled(PathBuf),
}

impl DiskDeviceError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| DiskDeviceError::Io {
            action,
            path: path.clone(),
            source,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            DiskDeviceError::Io { path, source, .. } => match source.kind() {
                io::ErrorKind::NotFound => "`lsblk` lists the disks that there are".to_owned(),
                io::ErrorKind::PermissionDenied => format!(
                    "give yourself the right to write to it, which the build does not need: \
                     sudo setfacl -m u:\"$USER\":rw {}",
                    path.display()
                ),
                _ => return None,
            },
            DiskDeviceError::NotADisk { is_file: true, .. } => {
                "name the node of a disk, which `lsblk` lists; --out copies to a file or into a directory"
                    .to_owned()
            }
            DiskDeviceError::NotADisk { is_file: false, .. } => {
                "name the node of a disk, which `lsblk` lists".to_owned()
            }
            DiskDeviceError::Partition { disk, .. } => format!(
                "name the disk, if everything on it may be lost: --device {}",
                disk.display()
            ),
            DiskDeviceError::Optical(_) => "name a card or a stick, which `lsblk` lists".to_owned(),
            DiskDeviceError::NoMedium(_) => "put a card into it".to_owned(),
            DiskDeviceError::ReadOnly(_) => "a card has a switch for that at its side".to_owned(),
            DiskDeviceError::BlockSize { .. } => {
                "take a disk with blocks of 512 bytes, as cards and sticks have them".to_owned()
            }
            DiskDeviceError::OfSystem { .. } => {
                "name another disk: this one is never written to".to_owned()
            }
            DiskDeviceError::InUse { hint, .. } => hint.clone(),
            DiskDeviceError::Fixed(_) => {
                "look at it twice: it may be the disk of this machine. If everything on it may be lost, \
                 add --allow-fixed-disk"
                    .to_owned()
            }
            DiskDeviceError::TooSmall { .. } => {
                "take a larger one, or state smaller partitions in the stone manifest".to_owned()
            }
            DiskDeviceError::Changed(_) => {
                "look at what it is now, as with `lsblk`, and run the command again".to_owned()
            }
            DiskDeviceError::ReadBack { .. } => {
                "take another one: this one is worn out, or smaller than it says".to_owned()
            }
            DiskDeviceError::Cancelled(_) => {
                "what was on it is lost; run the command again to write it".to_owned()
            }
        })
    }

    /// Whether it was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, DiskDeviceError::Cancelled(_))
    }
}
