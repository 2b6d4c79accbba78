use schemars::JsonSchema;
use serde::Deserialize;

use super::{RawImage, RawInclusions, RawKernel, RawPackages, RawSubvolumes, Text, Texts};
use crate::decode::{NotDecoded, Spanned, TextOr};

/// One runtime: what a device runs.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Runtime")]
pub(crate) struct RawRuntime {
    /// The only target that it is for.
    pub(crate) target: Option<Text>,
    /// The board that it is for.
    pub(crate) target_board: Option<Text>,
    /// Its version; derived from its content where absent.
    pub(crate) version: Option<Text>,
    /// The extensions, in order of priority.
    pub(crate) extensions: Option<RawInclusions>,
    /// What dnf installs into the runtime's own tree.
    #[schemars(extend("x-old-name" = "dependencies"))]
    pub(crate) packages: Option<RawPackages>,
    /// The name of a kernel, or what differs from the project's.
    pub(crate) kernel: Option<Spanned<TextOr<RawKernel>>>,
    /// The name of a root file system, or the thing itself.
    pub(crate) rootfs: Option<Spanned<TextOr<RawImage>>>,
    /// The name of an initramfs, or the thing itself.
    pub(crate) initramfs: Option<Spanned<TextOr<RawImage>>>,
    /// Where provisioning finds what it needs.
    pub(crate) stone_include_paths: Option<Texts>,
    /// How a device is provisioned.
    pub(crate) stone_manifest: Option<Text>,
    /// How it is signed.
    pub(crate) signing: Option<RawSigning>,
    /// The var partition.
    pub(crate) var: Option<RawVar>,
    /// Files that seed the var partition.
    pub(crate) var_files: Option<Vec<Spanned<RawVarFile>>>,
    /// A script, relative to the source directory.
    pub(crate) post_build: Option<Text>,
    /// `kos`, or nothing.
    pub(crate) r#type: Option<Text>,
    /// Images of a development registry.
    pub(crate) container_dev: NotDecoded,
}

/// An extension's place in a runtime.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Inclusion")]
pub(crate) struct RawInclusion {
    /// False: carried, not merged.
    pub(crate) enabled: Option<bool>,
}

/// How a runtime is signed.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Signing")]
pub(crate) struct RawSigning {
    /// A name of `signing_keys`, or a key id.
    pub(crate) key: Option<Text>,
    /// Of the images in the manifest: `sha256`.
    pub(crate) checksum_algorithm: Option<Text>,
    /// A second key, for the content.
    pub(crate) content_key: Option<Spanned<NotDecoded>>,
    /// Not used: the key of a server.
    pub(crate) server_key: NotDecoded,
}

/// A file that seeds the var partition.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "VarFile")]
pub(crate) struct RawVarFile {
    /// Relative to the source directory.
    pub(crate) source: Option<Text>,
    /// Relative to /var.
    pub(crate) dest: Option<Text>,
}

/// The var partition of a runtime.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Var")]
pub(crate) struct RawVar {
    /// Compression of what the image holds from the start: `zlib`, `lzo`, `zstd`, `zstd:3`, `none`.
    pub(crate) compression: Option<Text>,
    /// Its subvolumes, by their path below /var; they replace those of extensions.
    pub(crate) subvolumes: Option<RawSubvolumes>,
}

/// A subvolume of the var partition.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Subvolume")]
pub(crate) struct RawSubvolume {
    /// False: it is not made.
    pub(crate) enabled: Option<bool>,
    /// False: it is read-only.
    pub(crate) writable: Option<bool>,
    /// Compression of its files, from the start and later: `zlib`, `lzo`, `zstd`, `none`. A level has no
    /// effect here.
    pub(crate) compression: Option<Text>,
    /// True: its files are written in place, as databases want it, and not compressed.
    pub(crate) nodatacow: Option<bool>,
    /// The most that it may take, in bytes or with K, M, G or T: `2G`.
    pub(crate) quota: Option<Text>,
}
