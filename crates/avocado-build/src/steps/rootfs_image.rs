//! Turning an installed rootfs into the image of one runtime.

use std::fs;
use std::path::{Path, PathBuf};

use avocado_events::Sink;
use avocado_manifest::Name;
use avocado_project::{Filesystem, OsImage, Permissions, Runtime};
use avocado_sdk::Tool;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hook::{Hook, OverlayFiles};
use super::{Bench, Context, Made, PACKAGE_STATE, Step};
use crate::error::At as _;
use crate::graph::{Done, Task, TaskId};
use crate::stamp::{Outcome, Slot, hash};
use crate::tree::{self, Modes};
use crate::{Error, image, passwd};

/// The namespace of OS build ids, as published.
const BUILD_ID_NAMESPACE: Uuid = Uuid::NAMESPACE_DNS;

/// The configuration that rootfs and initramfs images share, as it travels to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OsTree {
    /// Which of the project's rootfs or initramfs.
    pub(crate) name: Name,
    pub(crate) filesystem: Filesystem,
    pub(crate) overlay: Option<OverlayFiles>,
    pub(crate) post_install: Option<Hook>,
    pub(crate) permissions: Option<Permissions>,
    pub(crate) runtime: Name,
    pub(crate) runtime_version: Option<String>,
    pub(crate) source_date_epoch: u64,
    /// `AVOCADO_OS_BUILD_ID`: follows from everything that shapes the image.
    pub(crate) build_id: String,
}

impl OsTree {
    /// Describes the image of `runtime`; `packages` stands for what is installed.
    pub(crate) fn new(
        context: &Context<'_>,
        name: &Name,
        os: &OsImage,
        runtime: &Runtime,
        packages: avocado_manifest::Digest,
    ) -> Result<Self, Error> {
        let overlay = os.overlay.as_ref();
        let post_install = os.post_install.as_deref();
        let mut described = OsTree {
            name: name.clone(),
            filesystem: os.filesystem,
            overlay: overlay.map(|o| OverlayFiles::new(context, o)).transpose()?,
            post_install: post_install.map(|p| Hook::new(context, p)).transpose()?,
            permissions: os.permissions.clone(),
            runtime: runtime.name.clone(),
            runtime_version: runtime.version.clone(),
            source_date_epoch: context.project.source_date_epoch,
            build_id: String::new(),
        };
        let shape = hash(&serde_json::json!({ "os": described, "packages": packages }));
        described.build_id = Uuid::new_v5(&BUILD_ID_NAMESPACE, shape.as_bytes()).to_string();
        Ok(described)
    }

    /// A copy of the installed tree with overlay, users and groups, and the user's hook if there
    /// is one; says whether there was.
    pub(crate) fn prepare(&self, bench: &Bench<'_>, kind: &str) -> Result<(PathBuf, bool), Error> {
        let root = bench.layout.work(&format!("{kind}-image-{}", self.runtime));
        tree::fresh(&root)?;
        tree::copy(&bench.layout.os_tree(kind, &self.name), &root, Modes::Keep)?;
        for state in PACKAGE_STATE {
            tree::clear(&root.join(state))?;
        }
        if let Some(overlay) = &self.overlay {
            overlay.apply(bench, &root)?;
        }
        if let Some(permissions) = &self.permissions {
            passwd::apply(&root, permissions)?;
        }
        if let Some(hook) = &self.post_install {
            let variable = format!("AVOCADO_{}_SYSROOT", kind.to_uppercase());
            hook.run(
                bench,
                &[
                    (variable.as_str(), root.as_os_str()),
                    ("AVOCADO_BUILD_DIR", root.as_os_str()),
                ],
            )?;
        }
        Ok((root, self.post_install.is_some()))
    }

    /// Adds our keys to a release file of the tree.
    pub(crate) fn extend_release(&self, root: &Path, file: &str) -> Result<(), Error> {
        let path = tree::inside(root, Path::new(file));
        if !path.is_file() {
            return Ok(());
        }
        let mut text = fs::read_to_string(&path).at("read", &path)?;
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text += &format!("AVOCADO_OS_BUILD_ID={}\n", self.build_id);
        text += &format!("AVOCADO_RUNTIME_NAME={}\n", self.runtime);
        if let Some(version) = &self.runtime_version {
            text += &format!("AVOCADO_RUNTIME_VERSION=\"{}\"\n", version.replace('"', ""));
        }
        tree::write(&path, text)?;
        tree::set_mode(&path, 0o644)
    }
}

/// The value of a key in a release file.
pub(crate) fn release_value(root: &Path, file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(tree::inside(root, Path::new(file))).ok()?;
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(k, _)| *k == key)
        .map(|(_, value)| value.trim_matches(['"', '\'']).to_owned())
}

/// A rootfs image, as it travels to the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RootfsImage(OsTree);

/// What an OS image step made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OsImaged {
    pub(crate) image: Made,
    pub(crate) version: Option<String>,
    pub(crate) build_id: String,
}

impl OsImaged {
    pub(crate) fn outcome(self) -> Outcome {
        Outcome {
            digest: self.image.sha256,
            detail: serde_json::to_value(&self).unwrap_or_default(),
        }
    }
}

/// The parent's side of a rootfs image.
pub(crate) struct RootfsImageTask<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) runtime: &'a Runtime,
    pub(crate) os: &'a OsImage,
    pub(crate) install: TaskId,
}

impl RootfsImageTask<'_> {
    fn request(&self, done: &Done<'_>) -> Result<RootfsImage, Error> {
        let packages = done.get(self.install)?.digest;
        let name = &self.runtime.rootfs;
        let tree = OsTree::new(self.context, name, self.os, self.runtime, packages)?;
        Ok(RootfsImage(tree))
    }
}

impl Task for RootfsImageTask<'_> {
    fn name(&self) -> String {
        format!("rootfs image {}", self.runtime.name)
    }

    fn slot(&self) -> Slot {
        Slot {
            component: "runtime",
            name: Some(self.runtime.name.to_string()),
            command: "rootfs-image",
        }
    }

    fn inputs(&self, done: &Done<'_>) -> Result<serde_json::Value, Error> {
        Ok(serde_json::json!({
            "image": self.request(done)?,
            "packages": done.get(self.install)?.digest,
            "writer": self.context.tool(image::writer(self.os.filesystem)),
            "tools": [self.context.tool("systemctl"), self.context.tool("ldconfig")],
        }))
    }

    fn outputs(&self) -> Vec<PathBuf> {
        let extension = image::extension(self.os.filesystem);
        vec![
            self.context
                .layout
                .rootfs_image(&self.runtime.name, extension),
        ]
    }

    fn run(&self, done: &Done<'_>, sink: &dyn Sink) -> Result<Outcome, Error> {
        let step = Step::RootfsImage(self.request(done)?);
        let imaged: OsImaged = self.context.step(&self.name(), step, None, sink)?;
        Ok(imaged.outcome())
    }
}

impl RootfsImage {
    pub(crate) fn work(self, bench: &Bench<'_>) -> Result<OsImaged, Error> {
        let os = self.0;
        let (root, hooked) = os.prepare(bench, "rootfs")?;
        if !hooked {
            finish_tree(bench, &root)?;
        }
        os.extend_release(&root, "usr/lib/os-release")?;
        let extension = image::extension(os.filesystem);
        let place = bench.layout.rootfs_image(&os.runtime, extension);
        let new = tree::unfinished(&place);
        image::write(bench, os.filesystem, &root, &new, &[])?;
        let made = Made::of(&new)?;
        tree::replace(&new, &place)?;
        let version = release_value(&root, "usr/lib/os-release", "VERSION_ID");
        tree::clear(&root)?;
        Ok(OsImaged {
            image: made,
            version,
            build_id: os.build_id,
        })
    }
}

/// What makes a tree of packages a root file system, where the project has no hook of its own.
fn finish_tree(bench: &Bench<'_>, root: &Path) -> Result<(), Error> {
    for name in ["bin", "sbin", "lib"] {
        let link = root.join(name);
        if fs::symlink_metadata(&link).is_err() {
            fs::create_dir_all(root.join("usr").join(name)).at("create", root)?;
            std::os::unix::fs::symlink(format!("usr/{name}"), &link).at("create", &link)?;
        }
    }
    // The kernel travels beside the rootfs, not inside it.
    tree::fresh(&root.join("boot"))?;
    for name in ["opt", "var", "proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(root.join(name)).at("create", root)?;
    }
    tree::write(&root.join("etc/machine-id"), "")?;
    if root.join("usr/lib/systemd/system-preset").is_dir() {
        Tool::new("systemctl")
            .arg(format!("--root={}", root.display()))
            .args(["preset-all", "--preset-mode=enable-only"])
            .run(bench.sink)?;
    }
    if root.join("etc/ld.so.conf").is_file() {
        Tool::new("ldconfig")
            .arg("-X")
            .arg("-r")
            .arg(root)
            .run(bench.sink)?;
        // Holds inode numbers and times of the build host's file system.
        tree::clear(&root.join("var/cache/ldconfig"))?;
    }
    Ok(())
}
