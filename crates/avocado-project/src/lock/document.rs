//! What the lock file holds. Empty parts are not written, and what is not known here is kept.

use std::collections::BTreeMap;

use avocado_manifest::{Digest, Name};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::absent::{filled, or_default};
use super::header::{self, PackageHeaders};
use super::locked_tree::{GitSource, LockedTree};
use super::sysroot::Sysroot;
use crate::model::{PackageScope, Packages};

/// The version of the lock file that is written. Older ones are read.
pub const LOCK_VERSION: u64 = 7;

/// A document of the present version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LockDocument {
    pub(super) version: u64,
    /// `distro.release` when the packages were locked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) distro_release: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) targets: BTreeMap<String, TargetLock>,
    #[serde(flatten)]
    pub(super) other: Map<String, Value>,
}

/// What is locked for one target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[serde(expecting = "a map")]
pub struct TargetLock {
    #[serde(
        deserialize_with = "filled",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    sdk: BTreeMap<String, Packages>,
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    rootfs: Packages,
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    initramfs: Packages,
    #[serde(
        deserialize_with = "filled",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    rootfs_named: BTreeMap<String, Packages>,
    #[serde(
        deserialize_with = "filled",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    initramfs_named: BTreeMap<String, Packages>,
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    target_sysroot: Packages,
    #[serde(
        deserialize_with = "filled",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    extensions: BTreeMap<String, LockedTree>,
    #[serde(
        deserialize_with = "filled",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    runtimes: BTreeMap<String, LockedTree>,
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    kernel_versions: BTreeMap<String, String>,
    #[serde(
        deserialize_with = "filled",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    kernels: BTreeMap<String, Packages>,
    /// By extension: the package that it is fetched as, and what that needs. Other readers of the
    /// format know `source` of the extension.
    #[serde(
        deserialize_with = "filled",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    includes: BTreeMap<String, Packages>,
    /// By extension: what was under the tags of its container images, as `sha256:…`.
    #[serde(
        deserialize_with = "filled",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    container_images: BTreeMap<String, BTreeMap<String, String>>,
    /// What others locked in place of that: it is written once it was installed.
    #[serde(skip)]
    adopted: BTreeMap<String, Packages>,
    /// By tree, named as among the kernel versions: beside the packages, because other readers of
    /// the format know those as text alone.
    #[serde(
        deserialize_with = "filled",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    package_headers: BTreeMap<String, PackageHeaders>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<Value>,
    #[serde(rename = "repo-snapshot", skip_serializing_if = "Option::is_none")]
    snapshot: Option<Snapshot>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// The frozen state of the feed that a target's packages are from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub struct Snapshot {
    /// The release.
    pub release: String,
    /// The channel.
    pub channel: String,
    /// The id of the snapshot.
    pub snapshot: String,
    /// The feed, where it was not the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo_url: Option<String>,
    /// When the feed made it, as the feed says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

impl TargetLock {
    /// The exact packages of a tree: name → `version-release.arch`. `None` where nothing is
    /// locked.
    pub fn packages(&self, sysroot: &Sysroot) -> Option<&BTreeMap<String, String>> {
        let packages = match sysroot {
            Sysroot::Sdk(arch) => self.sdk.get(arch),
            Sysroot::TargetSysroot => Some(&self.target_sysroot),
            Sysroot::Rootfs => Some(&self.rootfs),
            Sysroot::Initramfs => Some(&self.initramfs),
            Sysroot::NamedRootfs(name) => self.rootfs_named.get(name.as_str()),
            Sysroot::NamedInitramfs(name) => self.initramfs_named.get(name.as_str()),
            Sysroot::Extension(name) => self.extensions.get(name.as_str()).map(|t| &t.packages),
            Sysroot::Runtime(name) => self.runtimes.get(name.as_str()).map(|t| &t.packages),
            Sysroot::Include(name) => {
                let adopted = self.adopted.get(name.as_str());
                adopted.or_else(|| self.includes.get(name.as_str()))
            }
        };
        packages.filter(|packages| !packages.is_empty())
    }

    /// Locks the packages of a tree; none unlocks it.
    pub fn set_packages(&mut self, sysroot: &Sysroot, packages: BTreeMap<String, String>) {
        match sysroot {
            Sysroot::Sdk(arch) => set(&mut self.sdk, arch, packages),
            Sysroot::TargetSysroot => self.target_sysroot = packages,
            Sysroot::Rootfs => self.rootfs = packages,
            Sysroot::Initramfs => self.initramfs = packages,
            Sysroot::NamedRootfs(name) => set(&mut self.rootfs_named, name.as_str(), packages),
            Sysroot::NamedInitramfs(name) => {
                set(&mut self.initramfs_named, name.as_str(), packages);
            }
            Sysroot::Extension(name) => set_tree(&mut self.extensions, name, packages),
            Sysroot::Runtime(name) => set_tree(&mut self.runtimes, name, packages),
            Sysroot::Include(name) => {
                self.adopted.remove(name.as_str());
                set(&mut self.includes, name.as_str(), packages);
            }
        }
        let headers = self.headers(sysroot);
        self.set_headers(sysroot, headers);
    }

    /// What the packages of a tree are, for those of which it is known: locks of earlier versions
    /// of this program, and of others, have versions alone.
    pub fn headers(&self, sysroot: &Sysroot) -> PackageHeaders {
        let headers = self.package_headers.get(&sysroot.key());
        let mut headers = headers.cloned().unwrap_or_default();
        let none = Packages::new();
        header::keep_those_of(self.packages(sysroot).unwrap_or(&none), &mut headers);
        headers
    }

    /// Locks what the packages of a tree are. Only the headers of packages that are locked count.
    pub fn set_headers(&mut self, sysroot: &Sysroot, headers: PackageHeaders) {
        let key = sysroot.key();
        if headers.is_empty() {
            self.package_headers.remove(&key);
        } else {
            self.package_headers.insert(key, headers);
        }
    }

    /// The commit that an extension was fetched from, as long as it comes from this repository and
    /// this branch, tag or commit of it.
    pub fn commit(&self, extension: &Name, source: &GitSource) -> Option<&str> {
        let locked = self.extensions.get(extension.as_str())?.source()?;
        (locked.git == *source).then_some(locked.commit)
    }

    /// The repository and the commit that an extension was fetched from last, wherever it comes from
    /// now.
    pub fn last_commit(&self, extension: &Name) -> Option<(GitSource, &str)> {
        let locked = self.extensions.get(extension.as_str())?.source()?;
        Some((locked.git, locked.commit))
    }

    /// Locks the commit that an extension was fetched from.
    pub fn set_commit(&mut self, extension: &Name, source: &GitSource, commit: &str) {
        let tree = self.extensions.entry(extension.to_string()).or_default();
        tree.set_commit(source, commit);
    }

    /// Records which package an extension was fetched as, for other readers of the format.
    pub fn set_source_package(&mut self, extension: &Name, package: &str, version: &str) {
        let tree = self.extensions.entry(extension.to_string()).or_default();
        tree.set_package(package, version);
    }

    /// Takes over what others locked of the packages that extensions are fetched as: they know
    /// `source` alone.
    pub(super) fn adopt_sources(&mut self) {
        for (extension, tree) in &self.extensions {
            let Some((package, version)) = tree.package(extension) else {
                continue;
            };
            let known = self.includes.get(extension).and_then(|p| p.get(package));
            if known.map(String::as_str) != Some(version) {
                let packages = Packages::from([(package.to_owned(), version.to_owned())]);
                self.adopted.insert(extension.clone(), packages);
            }
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
        let version = self.kernel_versions.get(&sysroot.key())?;
        Some(version)
    }

    /// Records the version of the kernel that a tree was made for.
    pub fn set_kernel_version(&mut self, sysroot: &Sysroot, version: Option<String>) {
        let key = sysroot.key();
        match version {
            Some(version) => self.kernel_versions.insert(key, version),
            None => self.kernel_versions.remove(&key),
        };
    }

    /// What was under the tag of a container image, by `name:tag`, whichever extension has it.
    pub fn container_image(&self, reference: &str) -> Option<Digest> {
        let mut of_extensions = self.container_images.values();
        let digest = of_extensions.find_map(|images| images.get(reference))?;
        // What is none is locked anew.
        digest.strip_prefix("sha256:")?.parse().ok()
    }

    /// Locks what is under the tag of a container image that an extension has.
    pub fn set_container_image(&mut self, extension: &Name, reference: &str, digest: Digest) {
        let images = self.container_images.entry(extension.to_string());
        let images = images.or_default();
        images.insert(reference.to_owned(), format!("sha256:{digest}"));
    }

    /// Drops the container images that extensions do not have, and answers with their names.
    pub(super) fn drop_container_images(
        &mut self,
        has: impl Fn(&str, &str) -> bool,
    ) -> Vec<String> {
        let mut gone = Vec::new();
        for (extension, images) in &mut self.container_images {
            images.retain(|reference, _| {
                let kept = has(extension, reference);
                if !kept {
                    gone.push(format!(
                        "the container image {reference} of extensions/{extension}"
                    ));
                }
                kept
            });
        }
        self.container_images.retain(|_, images| !images.is_empty());
        gone
    }

    /// Forgets what is locked of one part of the project; of an extension also which commit or package
    /// it was fetched as.
    pub fn unlock(&mut self, scope: &PackageScope) {
        match scope {
            PackageScope::Extension(name) => {
                self.extensions.remove(name.as_str());
                self.includes.remove(name.as_str());
                self.adopted.remove(name.as_str());
                self.container_images.remove(name.as_str());
                self.forget(&Sysroot::Extension(name.clone()));
                self.forget(&Sysroot::Include(name.clone()));
            }
            PackageScope::Runtime(name) => {
                self.runtimes.remove(name.as_str());
                self.forget(&Sysroot::Runtime(name.clone()));
            }
            PackageScope::Sdk => {
                for arch in std::mem::take(&mut self.sdk).into_keys() {
                    self.forget(&Sysroot::Sdk(arch));
                }
                self.target_sysroot.clear();
                self.forget(&Sysroot::TargetSysroot);
            }
            PackageScope::Rootfs => {
                self.rootfs.clear();
                self.forget(&Sysroot::Rootfs);
                let named = std::mem::take(&mut self.rootfs_named).into_keys();
                for name in named.filter_map(|name| name.parse().ok()) {
                    self.forget(&Sysroot::NamedRootfs(name));
                }
            }
            PackageScope::Initramfs => {
                self.initramfs.clear();
                self.forget(&Sysroot::Initramfs);
                let named = std::mem::take(&mut self.initramfs_named).into_keys();
                for name in named.filter_map(|name| name.parse().ok()) {
                    self.forget(&Sysroot::NamedInitramfs(name));
                }
            }
        }
    }

    /// The trees of which something is locked.
    pub(super) fn sysroots(&self) -> Vec<Sysroot> {
        fn named<'a>(
            keys: impl IntoIterator<Item = &'a String>,
            of: fn(Name) -> Sysroot,
        ) -> impl Iterator<Item = Sysroot> {
            // What is no name is no tree of ours.
            let names = keys.into_iter().filter_map(|key| key.parse().ok());
            names.map(of)
        }
        let lone = [
            (Sysroot::TargetSysroot, &self.target_sysroot),
            (Sysroot::Rootfs, &self.rootfs),
            (Sysroot::Initramfs, &self.initramfs),
        ];
        let lone = lone
            .into_iter()
            .filter(|(_, packages)| !packages.is_empty());
        let includes = self.includes.keys().chain(self.adopted.keys());
        lone.map(|(sysroot, _)| sysroot)
            .chain(self.sdk.keys().cloned().map(Sysroot::Sdk))
            .chain(named(self.rootfs_named.keys(), Sysroot::NamedRootfs))
            .chain(named(self.initramfs_named.keys(), Sysroot::NamedInitramfs))
            .chain(named(self.extensions.keys(), Sysroot::Extension))
            .chain(named(self.runtimes.keys(), Sysroot::Runtime))
            .chain(named(includes, Sysroot::Include))
            .collect()
    }

    /// The extensions of which it is locked where they come from, with the kinds of these places.
    pub(super) fn locked_sources(&self) -> Vec<(Name, String)> {
        let sourced = self.extensions.iter().filter_map(|(name, tree)| {
            // What is no name is no extension of ours.
            Some((name.parse().ok()?, tree.source_type()?.to_owned()))
        });
        sourced.collect()
    }

    /// Forgets where an extension comes from.
    pub(super) fn forget_source(&mut self, extension: &Name) {
        if let Some(tree) = self.extensions.get_mut(extension.as_str()) {
            tree.remove_source();
            if *tree == LockedTree::default() {
                self.extensions.remove(extension.as_str());
            }
        }
    }

    /// Forgets everything of a tree.
    pub(super) fn remove(&mut self, sysroot: &Sysroot) {
        self.set_packages(sysroot, Packages::new());
        match sysroot {
            // There is more than packages.
            Sysroot::Extension(name) => {
                self.extensions.remove(name.as_str());
            }
            Sysroot::Runtime(name) => {
                self.runtimes.remove(name.as_str());
            }
            _ => {}
        }
        self.forget(sysroot);
    }

    /// What is kept of a tree beside its packages.
    fn forget(&mut self, sysroot: &Sysroot) {
        let key = sysroot.key();
        self.package_headers.remove(&key);
        self.kernel_versions.remove(&key);
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

fn set_tree(map: &mut BTreeMap<String, LockedTree>, name: &Name, packages: Packages) {
    let tree = map.entry(name.to_string()).or_default();
    tree.packages = packages;
    if *tree == LockedTree::default() {
        map.remove(name.as_str());
    }
}
