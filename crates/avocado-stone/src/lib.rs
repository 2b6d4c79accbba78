//! The *stone manifest* of a target, `stone-<target>.json` in its SDK or the file that a runtime
//! names as `stone_manifest`: which disks it has and what is on them, how a device is provisioned,
//! and how its operating system is updated. The format is the published one; fields that are not known are
//! ignored when reading, and what contradicts itself is an error that names the field.
//!
//! Nothing here touches a disk or starts a tool: [`StoneManifest::parse`] reads,
//! [`StorageDevice::layout`] says where the partitions are, and [`StoneManifest::bundle`] what an OS
//! bundle says.

mod bundle;
mod error;
mod image;
mod layout;
mod manifest;
mod provision;
mod update;

pub use bundle::{BundleParts, BundledFile};
pub use error::StoneError;
pub use image::{FatArguments, FatFile, FatImage, FatVariant, StoneImage};
pub use manifest::{PartitionSpec, StoneManifest, StoneRuntime, StorageDevice};
pub use provision::{ProvisionProfile, ProvisionSection};
pub use update::{StoneArtifact, StoneUpdate};
