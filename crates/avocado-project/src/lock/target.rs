use std::collections::BTreeMap;

use super::json::{Json, Map};
use crate::model::Packages;
use avocado_manifest::Name;

/// A tree that packages are installed into.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sysroot {
    /// The tools, for an architecture of the build host.
    Sdk(String),
    /// The root file system `default`.
    Rootfs,
    /// The initramfs `default`.
    Initramfs,
    /// Another root file system. Its packages are below `rootfs-named`, which other writers of
    /// the format keep or drop but do not misread.
    NamedRootfs(Name),
    /// Another initramfs, below `initramfs-named`.
    NamedInitramfs(Name),
    /// An extension.
    Extension(Name),
    /// The own tree of a runtime.
    Runtime(Name),
}

impl Sysroot {
    /// The root file system of that name.
    pub fn rootfs(name: &Name) -> Self {
        match name.as_str() {
            "default" => Sysroot::Rootfs,
            _ => Sysroot::NamedRootfs(name.clone()),
        }
    }

    /// The initramfs of that name.
    pub fn initramfs(name: &Name) -> Self {
        match name.as_str() {
            "default" => Sysroot::Initramfs,
            _ => Sysroot::NamedInitramfs(name.clone()),
        }
    }

    /// The key below `kernel-versions`.
    fn kernel_key(&self) -> String {
        match self {
            Sysroot::Sdk(arch) => format!("sdk/{arch}"),
            Sysroot::Rootfs => "rootfs".to_owned(),
            Sysroot::Initramfs => "initramfs".to_owned(),
            Sysroot::NamedRootfs(name) => format!("rootfs/{name}"),
            Sysroot::NamedInitramfs(name) => format!("initramfs/{name}"),
            Sysroot::Extension(name) => format!("extensions/{name}"),
            Sysroot::Runtime(name) => format!("runtimes/{name}"),
        }
    }
}

/// The frozen state of the feed that a target's packages are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The release.
    pub release: String,
    /// The channel.
    pub channel: String,
    /// The id of the snapshot.
    pub snapshot: String,
    /// The feed, where it was not the default one.
    pub repo_url: Option<String>,
    /// When the feed made it, as the feed says.
    pub created: Option<String>,
}

/// What is locked for one target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetLock {
    pub(super) sdk: BTreeMap<String, Packages>,
    pub(super) rootfs: Packages,
    pub(super) initramfs: Packages,
    pub(super) rootfs_named: BTreeMap<String, Packages>,
    pub(super) initramfs_named: BTreeMap<String, Packages>,
    pub(super) target_sysroot: Packages,
    pub(super) extensions: BTreeMap<String, Scope>,
    pub(super) runtimes: BTreeMap<String, Scope>,
    pub(super) kernel_versions: BTreeMap<String, String>,
    pub(super) kernels: BTreeMap<String, Packages>,
    pub(super) boot: Option<Json>,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) other: Map,
}

/// An extension or a runtime: its packages, and what else the file says of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Scope {
    pub(super) packages: Packages,
    pub(super) other: Map,
}

impl TargetLock {
    /// The exact packages of a tree: name → `version-release.arch`. `None` where nothing is
    /// locked.
    pub fn packages(&self, sysroot: &Sysroot) -> Option<&BTreeMap<String, String>> {
        let packages = match sysroot {
            Sysroot::Sdk(arch) => self.sdk.get(arch),
            Sysroot::Rootfs => Some(&self.rootfs),
            Sysroot::Initramfs => Some(&self.initramfs),
            Sysroot::NamedRootfs(name) => self.rootfs_named.get(name.as_str()),
            Sysroot::NamedInitramfs(name) => self.initramfs_named.get(name.as_str()),
            Sysroot::Extension(name) => self.extensions.get(name.as_str()).map(|s| &s.packages),
            Sysroot::Runtime(name) => self.runtimes.get(name.as_str()).map(|s| &s.packages),
        };
        packages.filter(|packages| !packages.is_empty())
    }

    /// Locks the packages of a tree; none unlocks it.
    pub fn set_packages(&mut self, sysroot: &Sysroot, packages: BTreeMap<String, String>) {
        match sysroot {
            Sysroot::Sdk(arch) => set(&mut self.sdk, arch, packages),
            Sysroot::Rootfs => self.rootfs = packages,
            Sysroot::Initramfs => self.initramfs = packages,
            Sysroot::NamedRootfs(name) => set(&mut self.rootfs_named, name.as_str(), packages),
            Sysroot::NamedInitramfs(name) => {
                set(&mut self.initramfs_named, name.as_str(), packages);
            }
            Sysroot::Extension(name) => set_scope(&mut self.extensions, name, packages),
            Sysroot::Runtime(name) => set_scope(&mut self.runtimes, name, packages),
        }
    }

    /// The snapshot that the target is pinned to; `None`: it follows the head of the channel.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Pins the target to a snapshot.
    pub fn set_snapshot(&mut self, snapshot: Option<Snapshot>) {
        self.snapshot = snapshot;
    }

    /// The version of the kernel that a tree was made for.
    pub fn kernel_version(&self, sysroot: &Sysroot) -> Option<&str> {
        let version = self.kernel_versions.get(&sysroot.kernel_key())?;
        Some(version)
    }

    /// Records the version of the kernel that a tree was made for.
    pub fn set_kernel_version(&mut self, sysroot: &Sysroot, version: Option<String>) {
        let key = sysroot.kernel_key();
        match version {
            Some(version) => self.kernel_versions.insert(key, version),
            None => self.kernel_versions.remove(&key),
        };
    }

    /// Forgets everything but `boot`, and what is not known here.
    pub(super) fn clear(&mut self) {
        *self = TargetLock {
            boot: self.boot.take(),
            other: std::mem::take(&mut self.other),
            ..TargetLock::default()
        };
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == TargetLock::default()
    }
}

/// Entries without content are not kept: the file does not have them either.
fn set(map: &mut BTreeMap<String, Packages>, key: &str, packages: Packages) {
    if packages.is_empty() {
        map.remove(key);
    } else {
        map.insert(key.to_owned(), packages);
    }
}

fn set_scope(map: &mut BTreeMap<String, Scope>, name: &Name, packages: Packages) {
    let scope = map.entry(name.to_string()).or_default();
    scope.packages = packages;
    if *scope == Scope::default() {
        map.remove(name.as_str());
    }
}
