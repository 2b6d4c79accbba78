//! What travels from host to device, defined once for both programs.
//!
//! A [`Manifest`] describes a runtime: its extensions, each with the digest of its image, in the
//! order in which they win. Its id follows from its content ([`Manifest::content_id`]), by way of
//! the one [`canonical_json`] that also TUF metadata is signed in. A [`VmImage`] describes the image
//! of a development VM, and an [`os_bundle`] an operating system for a device's other slot. What an image
//! says about itself is in its [`release_file`].
//!
//! Names that come from the network are types here, not strings: a [`RuntimeId`], an [`ImageId`]
//! or a [`Name`] that exists can be joined to a path without another check.

mod canonical;
mod digest;
mod json_token;
mod manifest;
mod names;
pub mod os_bundle;
mod parsed_text;
pub mod release_file;
mod vm_image;

pub use canonical::{CanonicalJsonError, canonical_json};
pub use digest::{Digest, DigestHasher, ParseDigestError};
pub use manifest::{
    LONGEST_MANIFEST_TEXT, MANIFEST_VERSION, Manifest, ManifestError, OsBundle, OsImage,
    RuntimeExtension, RuntimeLabel, is_mergeable,
};
pub use names::{ImageId, Name, NameError, RuntimeId};
pub use vm_image::{UpdatePolicy, VmArtifact, VmImage, VmImageError, VmRole};
