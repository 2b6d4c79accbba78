use std::path::PathBuf;

use avocado_engine::StampKey;
use avocado_manifest::Name;
use avocado_project::{OsImageConfig, PackageScope, Project, Sysroot};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

/// A tree that packages are installed into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PackageTree {
    Sdk,
    /// What the sections of `sdk.compile` are compiled against.
    TargetSysroot,
    Rootfs(Name),
    Initramfs(Name),
    Extension(Name),
    Runtime(Name),
    /// The target's repository configuration alone, for what is fetched before there is an SDK.
    Repositories,
    /// The package that an extension is fetched as.
    Include(Name),
}

impl PackageTree {
    /// The tree of a part of the project, if it has that part.
    pub(crate) fn of_scope(project: &Project, scope: &PackageScope) -> Option<Self> {
        // The default one, or the only one by another name.
        let named = |list: &[(Name, OsImageConfig)], tree: fn(Name) -> PackageTree| {
            let is_default = |(name, _): &&(Name, OsImageConfig)| name.as_str() == "default";
            let found = list.iter().find(is_default).or(list.first());
            found.map(|(name, _)| tree(name.clone()))
        };
        let rootfs = || named(&project.rootfs, PackageTree::Rootfs);
        let initramfs = || named(&project.initramfs, PackageTree::Initramfs);
        match scope {
            PackageScope::Extension(name) => Some(PackageTree::Extension(name.clone())),
            PackageScope::Runtime(name) => Some(PackageTree::Runtime(name.clone())),
            PackageScope::Sdk => Some(PackageTree::Sdk),
            PackageScope::Rootfs => rootfs(),
            PackageScope::Initramfs => initramfs(),
        }
    }

    /// The stage of its install.
    pub(super) fn label(&self) -> String {
        match self {
            PackageTree::Sdk => "sdk install".into(),
            PackageTree::TargetSysroot => "sdk install target-sysroot".into(),
            PackageTree::Rootfs(name) if name.as_str() == "default" => "rootfs install".into(),
            PackageTree::Initramfs(name) if name.as_str() == "default" => {
                "initramfs install".into()
            }
            PackageTree::Rootfs(name) => format!("rootfs install {name}"),
            PackageTree::Initramfs(name) => format!("initramfs install {name}"),
            PackageTree::Extension(name) => format!("ext install {name}"),
            PackageTree::Runtime(name) => format!("runtime install {name}"),
            PackageTree::Repositories => "sdk repositories".into(),
            PackageTree::Include(name) => format!("ext fetch {name}"),
        }
    }

    /// Whether an image is made of it.
    pub(super) fn becomes_image(&self) -> bool {
        match self {
            PackageTree::Rootfs(_) | PackageTree::Initramfs(_) | PackageTree::Extension(_) => true,
            PackageTree::Sdk
            | PackageTree::TargetSysroot
            | PackageTree::Runtime(_)
            | PackageTree::Repositories
            | PackageTree::Include(_) => false,
        }
    }

    pub(super) fn stamp_key(&self, layout: &Layout) -> StampKey {
        let sdk = || layout.sdk_processor().to_string();
        let (component, directory, name) = match self {
            PackageTree::Sdk => ("sdk", "sdk", Some(sdk())),
            PackageTree::TargetSysroot => ("sdk", "sdk", Some("target-sysroot".to_owned())),
            PackageTree::Rootfs(name) => ("rootfs", "rootfs", other_than_default(name)),
            PackageTree::Initramfs(name) => ("initramfs", "initramfs", other_than_default(name)),
            // As published: shorter than the component.
            PackageTree::Extension(name) => ("extension", "ext", Some(name.to_string())),
            PackageTree::Runtime(name) => ("runtime", "runtime", Some(name.to_string())),
            PackageTree::Repositories => ("sdk", "sdk", Some(sdk())),
            PackageTree::Include(name) => ("extension", "ext", Some(name.to_string())),
        };
        let command = match self {
            PackageTree::Repositories => "repositories",
            PackageTree::Include(_) => "fetch",
            _ => "install",
        };
        StampKey {
            component,
            directory,
            name,
            command,
        }
    }

    /// What the lock calls it.
    pub(super) fn sysroot(&self, layout: &Layout) -> Sysroot {
        match self.clone() {
            PackageTree::Sdk | PackageTree::Repositories => {
                Sysroot::Sdk(layout.sdk_processor().to_string())
            }
            PackageTree::TargetSysroot => Sysroot::TargetSysroot,
            PackageTree::Rootfs(name) => Sysroot::rootfs(&name),
            PackageTree::Initramfs(name) => Sysroot::initramfs(&name),
            PackageTree::Extension(name) => Sysroot::Extension(name),
            PackageTree::Runtime(name) => Sysroot::Runtime(name),
            PackageTree::Include(name) => Sysroot::Include(name),
        }
    }

    /// The installed tree.
    pub(crate) fn root(&self, layout: &Layout) -> PathBuf {
        match self {
            PackageTree::Sdk => layout.sdk(),
            PackageTree::TargetSysroot => layout.target_sysroot(),
            PackageTree::Rootfs(name) => layout.os_tree("rootfs", name),
            PackageTree::Initramfs(name) => layout.os_tree("initramfs", name),
            PackageTree::Extension(name) => layout.extension_packages(name),
            PackageTree::Runtime(name) => layout.work("runtimes").join(name),
            PackageTree::Repositories => layout.target_repoconf(),
            PackageTree::Include(name) => layout.include(name),
        }
    }
}

fn other_than_default(name: &Name) -> Option<String> {
    (name.as_str() != "default").then(|| name.to_string())
}
