//! What travels from host to device, defined once for both programs.
//!
//! Names that come from the network are types here, not strings: a [`RuntimeId`], an [`ImageId`]
//! or a [`Name`] that exists can be joined to a path without another check.

mod digest;
mod manifest;
mod names;
mod vm_image;

pub use digest::{Digest, Hasher, ParseDigestError};
pub use manifest::{
    Extension, Image, MANIFEST_VERSION, Manifest, ManifestError, OsBundle, RuntimeInfo,
};
pub use names::{ImageId, Name, NameError, RuntimeId};
pub use vm_image::{UpdatePolicy, VmArtifact, VmImage, VmImageError, VmRole};
