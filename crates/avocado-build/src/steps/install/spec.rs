//! What an install is to bring, and how dnf is asked for it.

use std::collections::BTreeMap;

use avocado_manifest::Name;
use avocado_project::{Late, PackageHeaders, Packages, VersionSpec};
use serde::{Deserialize, Serialize};

use super::PackageTree;
use super::kernel::KERNEL_PACKAGE;
use crate::error::BuildError;
use crate::packages::version;

/// What an install is to bring, and what it has to know for that.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct InstallSpec {
    pub(super) tree: PackageTree,
    /// What the project asks for.
    pub(super) packages: Late<Packages>,
    /// The only repository that is asked, where one is stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) repository: Option<String>,
    /// What the lock says: name → `version-release.arch`.
    pub(super) locked: BTreeMap<String, String>,
    /// What the lock says that these packages are; empty or not whole in a lock that has only
    /// their versions.
    #[serde(default, skip_serializing_if = "PackageHeaders::is_empty")]
    pub(super) headers: PackageHeaders,
    pub(super) weak_dependencies: bool,
    /// The rootfs whose packages count as present.
    pub(super) base: Option<Name>,
    /// The kernel of that rootfs, where the packages hang on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base_kernel: Option<String>,
    /// Whether to add the newest kernel of the feed, and which one the lock has.
    pub(super) kernel: Option<KernelChoice>,
    /// Whether the scriptlets of the packages run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) scriptlets: bool,
    /// Nothing that is made for another kernel may be installed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) one_kernel: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// That a kernel of the feed is wanted, the newest one where the lock has none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KernelChoice {
    /// The package that brings it, where it is another one than every feed has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) package: Option<String>,
    /// The version in the lock.
    pub(super) pinned: Option<String>,
    /// Which ones are meant, where that is stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wanted: Option<VersionSpec>,
}

/// What every SDK has.
pub(super) const SDK_PACKAGE: &str = "avocado-sdk-bootstrap";

/// The package with the repository configuration of a target.
pub(super) fn repositories_package(target: &Name) -> String {
    format!("avocado-sdk-{target}")
}

impl InstallSpec {
    pub(super) fn kernel_package(&self) -> &str {
        let kernel = self.kernel.as_ref();
        let package = kernel.and_then(|kernel| kernel.package.as_deref());
        package.unwrap_or(KERNEL_PACKAGE)
    }

    pub(super) fn spec(&self, name: &str, version: &str) -> String {
        match (self.locked.get(name), version) {
            (Some(locked), "*") => self.locked_spec(name, locked),
            (_, "*") => name.to_owned(),
            (_, version) => format!("{name}-{version}"),
        }
    }

    /// Without an epoch dnf takes any, and of several the highest.
    pub(super) fn locked_spec(&self, name: &str, version: &str) -> String {
        match self.headers.get(name) {
            Some(header) => format!("{name}-{}:{version}", header.epoch),
            None => format!("{name}-{version}"),
        }
    }

    pub(super) fn specs(&self, packages: &Packages) -> Vec<String> {
        let mut packages = packages.clone();
        if self.tree == PackageTree::Sdk {
            packages
                .entry(SDK_PACKAGE.into())
                .or_insert_with(|| "*".into());
        }
        packages
            .iter()
            .map(|(name, version)| self.spec(name, version))
            .collect()
    }

    /// The kernel of the lock, or the newest of the feed's that are meant.
    pub(super) fn choose_kernel(
        &self,
        kernels: &[String],
        stated_at: Option<&str>,
    ) -> Result<Option<String>, BuildError> {
        let Some(wish) = &self.kernel else {
            return Ok(None);
        };
        if let Some(version) = &wish.pinned {
            return Ok(Some(version.clone()));
        }
        let is_meant = |version: &&String| {
            let wanted = wish.wanted.as_ref();
            wanted.is_none_or(|wanted| wanted.matches(version))
        };
        let meant = kernels.iter().filter(is_meant);
        let newest = meant.max_by(|a, b| version::compare(a, b));
        let wanted = match (&wish.wanted, &wish.package) {
            (Some(wanted), Some(package)) => Some(format!("{package}-{wanted}")),
            (Some(wanted), None) => Some(wanted.to_string()),
            (None, package) => package.clone(),
        };
        match (newest, wanted) {
            (Some(version), _) => Ok(Some(version.clone())),
            (None, None) => Ok(None),
            (None, Some(wanted)) => Err(BuildError::NoKernel {
                wanted,
                stated_at: stated_at.unwrap_or_default().to_owned(),
                available: kernels.to_vec(),
            }),
        }
    }
}

/// The names of the packages that are made for a kernel, as dnf's patterns.
pub(super) fn packages_for(kernel: &str) -> [String; 3] {
    ["kernel-", "kernel-*-", "nv-kernel-module-*-"].map(|start| format!("{start}{kernel}"))
}
