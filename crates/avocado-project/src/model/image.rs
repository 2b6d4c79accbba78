use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::compile::ProjectPackage;
use super::packages::Packages;
use super::permissions::Permissions;
use crate::late::Late;
use crate::path_pattern::PathPattern;
use crate::place::{Placed, SourcePlace};

/// A root file system or an initramfs, as the project wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OsImageConfig {
    /// What dnf installs. The default is `avocado-pkg-rootfs` or `avocado-pkg-initramfs`.
    pub packages: Late<Packages>,
    /// Those of its packages that are not of the feed.
    pub project_packages: Vec<ProjectPackage>,
    /// The image format.
    pub filesystem: Filesystem,
    /// Files laid over the installed packages.
    pub overlay: Option<Overlay>,
    /// `post_install`: a script, relative to the source directory, that replaces the built-in
    /// preparation of the image tree.
    pub post_install: Option<Placed<PathBuf>>,
    /// Users and groups, where the project states any.
    pub permissions: Option<Permissions>,
    /// `image: {type: kab}`: it goes into a container of that format.
    pub kab: Option<SourcePlace>,
    /// `source`: it is stated in another project, which is not here.
    pub not_fetched: Option<SourcePlace>,
}

/// Every image format, with its name in avocado.yaml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filesystem {
    /// `squashfs`, gzip.
    Squashfs,
    /// `erofs`, not compressed.
    Erofs,
    /// `erofs-lz4`.
    ErofsLz4,
    /// `erofs-zst`.
    ErofsZst,
    /// `cpio`.
    #[serde(rename = "cpio")]
    Cpio,
    /// `cpio.zst`.
    #[serde(rename = "cpio.zst")]
    CpioZst,
    /// `cpio.lz4`, in the legacy frame that the kernel reads.
    #[serde(rename = "cpio.lz4")]
    CpioLz4,
    /// `cpio.gz`.
    #[serde(rename = "cpio.gz")]
    CpioGz,
}

/// A directory whose files are laid over a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overlay {
    /// The directory, relative to the source directory.
    pub dir: PathBuf,
    /// Where the directory is stated.
    pub place: SourcePlace,
    /// How it is laid.
    pub mode: OverlayMode,
    /// `preprocess`: in which of its files references are filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<PreprocessedFiles>,
}

/// Files of an overlay in which references such as `{{ env.X }}` are filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PreprocessedFiles {
    /// All that are UTF-8.
    All,
    /// Those of them whose path in the overlay is of one of these patterns. One without `/` is
    /// compared with the name of the file alone.
    Matching(Vec<Placed<PathPattern>>),
}

/// How an overlay is laid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlayMode {
    /// Files are added to the tree; directories are merged.
    #[default]
    Merge,
    /// Published as another way of copying the same files, without their modes. Modes come from
    /// what a checkout can hold in either case, so the result is that of `Merge`.
    Opaque,
}
