//! The *stone manifest* of a target, `stone-<target>.json` in its SDK or the file that a runtime
//! names as `stone_manifest`: which disks it has and what is on them, how a device is provisioned,
//! and how its operating system is updated. The format is the published one; fields that are not known are
//! ignored when reading, and what contradicts itself is an error that names the field.
//!
//! Nothing here touches a disk or starts a tool: [`StoneManifest::parse`] reads,
//! [`StorageDevice::layout`] says where the partitions are, [`StorageDevice::gpt`] how the image of a disk
//! is made, [`StoneManifest::bundle`] what an OS bundle says, and [`StoneManifest::way_to_provision`] how a
//! device comes to have all that.

mod bundle;
mod error;
mod gpt_disk;
mod image;
mod layout;
mod manifest;
mod provision;
mod update;

pub use bundle::{BundleParts, BundledFile};
pub use error::StoneError;
pub use gpt_disk::{GptDisk, GptPartition};
pub use image::{FatArguments, FatFile, FatImage, FatVariant, StoneImage};
pub use manifest::{PartitionSpec, StoneManifest, StoneRuntime, StorageDevice};
pub use provision::{ProvisionProfile, ProvisionSection, WayToProvision};
pub use update::{StoneArtifact, StoneUpdate};
