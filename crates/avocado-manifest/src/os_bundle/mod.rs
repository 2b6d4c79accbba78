//! What an OS bundle says about itself: `bundle.json`, the first file of an `.aos` archive (a tar,
//! compressed with zstd, whose other files are the artifacts).
//!
//! [`OsBundleDescription::parse`] reads what both published writers make: `stone`, and the one that the
//! published documentation of the format describes. They differ in how they say the same: a strategy
//! `a-b` for `uboot-ab`, artifacts beside `bundle.json` for `images/`, boot partitions by device for
//! by UUID, boot entries by number for by label, plain bytes for amounts with a unit.
//! [`OsBundleDescription::to_json`] writes what `stone` does. What is read is checked as a whole: each
//! name can be joined to a path, each amount is one in bytes, both slots are there, and a type that is
//! not known is an error. Fields that are not known are ignored, as everywhere in this format.

mod action;
mod checks;
mod chunks;
mod error;
mod layout;
mod read;
mod slot;
#[cfg(test)]
mod tests;
mod wire;

use serde::{Deserialize, Serialize};

use crate::{Digest, Name};

pub use action::{BootEntry, SlotAction};
pub use checks::stated_bytes;
pub use chunks::{
    BundleChunk, ChunkedArchive, ChunkedArtifact, LARGEST_CHUNK_INDEX, OS_BUNDLE_CHUNK,
    OsBundleChunks,
};
pub use error::OsBundleError;
pub use layout::{DISK_SECTOR, DiskLayout, LayoutFault, LayoutPartition};
pub use slot::{BySlot, OsSlot, SlotNaming, UpdateStrategy};

/// The version of the format that is read and written.
pub const OS_BUNDLE_FORMAT: u32 = 1;

/// The name of the description in the archive; it is the first file.
pub const OS_BUNDLE_FILE: &str = "bundle.json";

/// Where the artifacts are in the archive. Some writers put them beside the description instead.
pub const OS_BUNDLE_IMAGES: &str = "images";

/// The largest description that is read, in bytes.
pub const LARGEST_OS_BUNDLE_DESCRIPTION: usize = 1 << 20;

/// An OS bundle: for which devices it is, and what an update with it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsBundleDescription {
    /// The hardware that it is for, for example `qemux86-64`.
    pub platform: Name,
    /// The processor that it is for, for example `x86_64`.
    pub architecture: Name,
    /// `AVOCADO_OS_BUILD_ID` of the root file system. None: the writer knew none.
    pub os_build_id: Option<String>,
    /// `AVOCADO_OS_BUILD_ID` of the initial RAM file system.
    pub initramfs_build_id: Option<String>,
    /// How it gets to a device. None: the bundle only tells what it is.
    pub update: Option<OsBundleUpdate>,
    /// The disk, where partitions are found by their place.
    pub layout: Option<DiskLayout>,
    /// What the root file system says about itself when it has come up.
    pub verify: Option<ReleaseCheck>,
    /// What the initial RAM file system says about itself when it has come up.
    pub verify_initramfs: Option<ReleaseCheck>,
}

/// How a bundle gets to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsBundleUpdate {
    /// The kind of boot loader.
    pub strategy: UpdateStrategy,
    /// How the slot that runs is known.
    pub slot_detection: SlotDetection,
    /// What is written to the inactive slot, in this order.
    pub artifacts: Vec<OsArtifact>,
    /// What makes the boot loader start the slot that was written.
    pub activate: Vec<SlotAction>,
    /// What makes it start the slot before again. None: nothing is stated.
    pub rollback: Option<Vec<SlotAction>>,
    /// What makes the slot that has proven itself the one that is started from now on. None: nothing is
    /// stated.
    pub commit: Option<Vec<SlotAction>>,
}

/// How the slot that runs is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotDetection {
    /// A variable of the U-Boot environment has its name.
    UbootEnv {
        /// The variable.
        var: Name,
    },
    /// A program prints its name.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// systemd-boot says from which partition it was started (`LoaderDevicePartUUID`).
    SdbootEfi {
        /// The boot partition of each slot.
        partitions: BySlot<BootPartition>,
    },
    /// The firmware of a Raspberry Pi says from which partition it booted.
    RpiTryboot {
        /// The number of the boot partition of each slot, from 1.
        boot_partitions: BySlot<u32>,
    },
    /// A board with RAUC's U-Boot script: the kernel's command line has `rauc.slot=`.
    RaucUboot {
        /// What RAUC calls the slots: `BOOT_<name>_LEFT`.
        bootnames: BySlot<Name>,
    },
    /// A board with Mender's U-Boot script: `mender_boot_part` is the number of the partition.
    MenderUboot {
        /// The number of the root partition of each slot.
        partitions: BySlot<u32>,
    },
}

/// A partition that a boot loader is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootPartition {
    /// By the UUID of its entry in the partition table, in lower case.
    Uuid(String),
    /// By its device, for example `/dev/disk/by-partlabel/boot-a`.
    Device(String),
}

/// A file of the bundle that is written to a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsArtifact {
    /// What it is, for people and in progress: `rootfs`.
    pub name: Name,
    /// The name of the file, in `images/` of the archive or beside the description.
    pub file: Name,
    /// The digest of the file.
    pub sha256: Digest,
    /// The size of the file in bytes.
    pub size: Option<u64>,
    /// The partition of each slot that it belongs to: a label of the partition table (GPT), or a name
    /// in the layout.
    pub partitions: BySlot<Name>,
}

/// What a file of a release has to say: `field` is `expected`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseCheck {
    /// The kind of check; `os-release` is the only one that was ever published.
    #[serde(rename = "type")]
    pub kind: String,
    /// The key in the file.
    pub field: String,
    /// The file, where the writer states one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its value.
    pub expected: String,
}

impl ReleaseCheck {
    /// The kind of check that reads a file of `KEY=value` lines.
    pub const OS_RELEASE: &str = "os-release";

    /// A check of `AVOCADO_OS_BUILD_ID`, the key that both the root file system and the initial RAM file
    /// system have.
    pub fn of_build(expected: &str) -> Self {
        ReleaseCheck {
            kind: Self::OS_RELEASE.into(),
            field: "AVOCADO_OS_BUILD_ID".into(),
            path: None,
            expected: expected.into(),
        }
    }
}

impl OsArtifact {
    /// The path of the file in an archive that we write.
    pub fn archive_path(&self) -> String {
        format!("{OS_BUNDLE_IMAGES}/{}", self.file)
    }
}
