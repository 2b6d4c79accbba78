//! The project, resolved for one target: what the rest of the programs see of avocado.yaml.
//!
//! Everything here is interpolated, overridden and validated. Paths are absolute unless a field
//! says otherwise. Maps keep the order of the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use avocado_manifest::Name;
use serde::{Deserialize, Serialize};

/// One avocado.yaml, resolved for one target.
#[derive(Debug, Clone)]
pub struct Project {
    /// The avocado.yaml that was read.
    pub config_path: PathBuf,
    /// `src_dir`, or the directory of avocado.yaml: sources, the lock file and the state are here.
    pub src_dir: PathBuf,
    /// The target that everything below is resolved for, for example `qemux86-64`.
    pub target: Name,
    /// `source_date_epoch`: seconds since 1970 for every time stamp in a result. Default 0.
    pub source_date_epoch: u64,
    /// The package feed.
    pub distro: Distro,
    /// Tools that run on the build host.
    pub sdk: Sdk,
    /// The named root file systems. Never empty; holds `default` unless the file names others
    /// only. One that a runtime has inline is called `runtime-<runtime>`.
    pub rootfs: Vec<(Name, OsImage)>,
    /// The named initial RAM file systems, under the same rules.
    pub initramfs: Vec<(Name, OsImage)>,
    /// Every extension of the file, in its order.
    pub extensions: Vec<Extension>,
    /// The runtimes whose `target` is absent or is the current one, in file order.
    pub runtimes: Vec<Runtime>,
    /// `default_runtime`, where the file states one.
    pub default_runtime: Option<Name>,
    /// `signing_keys`: name in the project → key id or name in the registry.
    pub signing_keys: Vec<(String, String)>,
}

/// The package feed and where the project stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distro {
    /// `distro.release`, for example `2024`.
    pub release: Option<String>,
    /// `distro.channel`, for example `edge`.
    pub channel: Option<String>,
    /// The effective repository URL, without a final slash.
    pub repo_url: String,
    /// Set where the releasever is given outright (environment or `distro.repo.releasever`):
    /// snapshots are not used then. Otherwise the releasever is `<release>/<channel>`.
    pub releasever: Option<String>,
    /// PEM file of a private CA for the feed.
    pub ca: Option<PathBuf>,
    /// False: do not verify the feed's certificate.
    pub tls_verify: bool,
}

/// Tools that run on the build host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sdk {
    /// `sdk.image`: the container image, for the container backend.
    pub image: Option<String>,
    /// `sdk.packages`.
    pub packages: Packages,
    /// `sdk.disable_weak_dependencies`.
    pub disable_weak_dependencies: bool,
}

/// Package name → requested version: `*` or an exact `version-release[.arch]`.
pub type Packages = BTreeMap<String, String>;

/// A root file system or an initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsImage {
    /// What dnf installs. The default is `avocado-pkg-rootfs` or `avocado-pkg-initramfs`.
    pub packages: Packages,
    /// The image format.
    pub filesystem: Filesystem,
    /// Files laid over the installed packages.
    pub overlay: Option<Overlay>,
    /// `post_install`: a script, relative to the source directory, that replaces the built-in
    /// preparation of the image tree.
    pub post_install: Option<PathBuf>,
    /// Users and groups, where the project states any.
    pub permissions: Option<Permissions>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// The directory, relative to the source directory. It exists.
    pub dir: PathBuf,
    /// How it is laid.
    pub mode: OverlayMode,
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

/// Users and groups for `/etc/passwd`, `/etc/shadow` and `/etc/group`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// In file order.
    pub users: Vec<User>,
    /// In file order.
    pub groups: Vec<Group>,
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Numeric id; assigned from 1000 where absent (existing users keep theirs).
    pub uid: Option<u32>,
    /// Numeric primary group; a group of the user's name where absent.
    pub gid: Option<u32>,
    /// Full name; default the login name.
    pub gecos: Option<String>,
    /// Home directory; default `/home/<name>`.
    pub home: Option<String>,
    /// Login shell; default `/bin/sh`.
    pub shell: Option<String>,
    /// `None`: locked (`*`). `Some("")`: no password. Otherwise a crypt(3) hash.
    pub password: Option<String>,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// Days since 1970 of the last password change; default 19000.
    pub last_change: u32,
    /// Default 0.
    pub min_days: u32,
    /// Default 99999.
    pub max_days: u32,
    /// Default 7.
    pub warn_days: u32,
    /// Default empty.
    pub inactive_days: Option<u32>,
    /// Default empty.
    pub expire_date: Option<u32>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Group name.
    pub name: String,
    /// Numeric id; assigned from 1000 where absent (existing groups keep theirs).
    pub gid: Option<u32>,
    /// Members; `None` leaves those of an existing group.
    pub members: Option<Vec<String>>,
}

/// One extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// The key below `extensions:`.
    pub name: Name,
    /// `version`.
    pub version: Name,
    /// `types` has `sysext`. Default true.
    pub sysext: bool,
    /// `types` has `confext`. Default true.
    pub confext: bool,
    /// What dnf installs.
    pub packages: Packages,
    /// Files laid over the packages.
    pub overlay: Option<Overlay>,
    /// `post_build`: a script, relative to the source directory.
    pub post_build: Option<PathBuf>,
    /// `filesystem`. Default squashfs.
    pub filesystem: Filesystem,
    /// `var_files`, as written: paths relative to the sysroot, `/**` or `/*` at the end allowed.
    pub var_files: Vec<String>,
    /// `enable_services`.
    pub enable_services: Vec<String>,
    /// `modprobe`.
    pub modprobe: Vec<String>,
    /// `on_merge`.
    pub on_merge: Vec<String>,
    /// `on_unmerge`.
    pub on_unmerge: Vec<String>,
    /// `reload_service_manager`. Default false.
    pub reload_service_manager: bool,
    /// `sysext_scopes`, else `scopes`, else `system`.
    pub sysext_scopes: Vec<String>,
    /// `confext_scopes`, else `scopes`, else `system`.
    pub confext_scopes: Vec<String>,
}

/// One runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// The key below `runtimes:`.
    pub name: Name,
    /// `version`, where the project states one.
    pub version: Option<String>,
    /// The extensions in order of priority; each exists in [`Project::extensions`].
    pub extensions: Vec<RuntimeExtension>,
    /// What dnf installs into the runtime's own tree.
    pub packages: Packages,
    /// `var_files`.
    pub var_files: Vec<VarFile>,
    /// Key of [`Project::rootfs`].
    pub rootfs: Name,
    /// Key of [`Project::initramfs`].
    pub initramfs: Name,
    /// `signing.key`: a name of [`Project::signing_keys`] or of the registry.
    pub signing_key: Option<String>,
    /// `post_build`: a script, relative to the source directory.
    pub post_build: Option<PathBuf>,
}

/// An extension's place in a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeExtension {
    /// Its name.
    pub name: Name,
    /// False: carried, not merged.
    pub enabled: bool,
}

/// A file or directory of the project that seeds the var partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VarFile {
    /// Relative to the source directory.
    pub source: PathBuf,
    /// Relative to `/var`, safe: no `..`, not absolute.
    pub dest: PathBuf,
}

impl Project {
    /// The extension of that name.
    pub fn extension(&self, name: &Name) -> Option<&Extension> {
        self.extensions.iter().find(|e| e.name == *name)
    }

    /// The runtime of that name.
    pub fn runtime(&self, name: &Name) -> Option<&Runtime> {
        self.runtimes.iter().find(|r| r.name == *name)
    }

    /// `<src_dir>/.avocado/state`: what is `/opt/_avocado` inside a step.
    pub fn state_dir(&self) -> PathBuf {
        self.src_dir.join(".avocado/state")
    }
}
