use std::path::PathBuf;

use avocado_manifest::Name;
use serde::{Deserialize, Serialize};

use super::compile::ProjectPackage;
use super::kernel::{KernelConfig, KernelOrigin};
use super::packages::Packages;
use super::var::VarPartition;
use crate::late::Late;
use crate::place::{Placed, SourcePlace};

/// One runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Runtime {
    /// The key below `runtimes:`.
    pub name: Name,
    /// `type: kos`: it is of that kind.
    pub kos: Option<SourcePlace>,
    /// `target_board`, where the project states one.
    pub target_board: Option<String>,
    /// `version`, where the project states one.
    pub version: Option<String>,
    /// The extensions in order of priority: those that are stated, and after them those that they
    /// need. Each exists in [`super::Project::extensions`], or in [`super::Project::sources`] while
    /// it is not here; what such a one needs is not known yet.
    pub extensions: Vec<ExtensionInclusion>,
    /// What dnf installs into the runtime's own tree.
    pub packages: Late<Packages>,
    /// Those of its packages that are not of the feed.
    pub project_packages: Vec<ProjectPackage>,
    /// Its kernel: what it states itself, over what the project states.
    pub kernel: Option<KernelConfig>,
    /// `var`: the var partition.
    pub var: VarPartition,
    /// `var_files`.
    pub var_files: Vec<Placed<VarFile>>,
    /// Key of [`super::Project::rootfs`].
    pub rootfs: Name,
    /// Key of [`super::Project::initramfs`].
    pub initramfs: Name,
    /// `signing.key`: a name of [`super::Project::signing_keys`] or of the registry.
    pub signing_key: Option<String>,
    /// `signing.content_key`: a second key, for the content.
    pub content_key: Option<SourcePlace>,
    /// `signing.checksum_algorithm: blake3`.
    pub blake3: Option<SourcePlace>,
    /// `stone_include_paths`, relative to the source directory: where the files are that the stone
    /// manifest names.
    pub stone_include_paths: Vec<Placed<PathBuf>>,
    /// `stone_manifest`, relative to the source directory: how the storage of a device is laid out and
    /// updated.
    pub stone_manifest: Option<Placed<PathBuf>>,
    /// `post_build`: a script, relative to the source directory.
    pub post_build: Option<Placed<PathBuf>>,
}

impl Runtime {
    /// Whether the project compiles its kernel.
    pub fn compiles_kernel(&self) -> bool {
        let kernel = self.kernel.as_ref();
        kernel.is_some_and(|kernel| matches!(kernel.origin, KernelOrigin::Compiled { .. }))
    }
}

/// An extension's place in a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionInclusion {
    /// Its name.
    pub name: Name,
    /// False: carried, not merged.
    pub enabled: bool,
    /// The extension for whose sake it is there, where the runtime does not state it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed_by: Option<Name>,
}

/// A file or directory of the project that seeds the var partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VarFile {
    /// Relative to the source directory.
    pub source: PathBuf,
    /// Relative to `/var`, safe: no `..`, not absolute.
    pub dest: PathBuf,
}
