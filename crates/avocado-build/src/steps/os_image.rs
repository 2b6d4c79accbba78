//! Turning an installed rootfs or initramfs into the image of one runtime.

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

/// The release files of an initramfs; the first that is there says its version.
const INITRAMFS_RELEASES: [&str; 2] = ["usr/lib/initrd-release", "usr/lib/os-release-initrd"];

/// Which of the two file systems of an OS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    Rootfs,
    Initramfs,
}

impl Part {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Part::Rootfs => "rootfs",
            Part::Initramfs => "initramfs",
        }
    }

    fn releases(self) -> &'static [&'static str] {
        match self {
            Part::Rootfs => &["usr/lib/os-release"],
            Part::Initramfs => &INITRAMFS_RELEASES,
        }
    }
}

/// An OS image, as it travels to the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OsImageStep {
    part: Part,
    /// Which of the project's rootfs or initramfs.
    name: Name,
    filesystem: Filesystem,
    overlay: Option<OverlayFiles>,
    post_install: Option<Hook>,
    permissions: Option<Permissions>,
    runtime: Name,
    runtime_version: Option<String>,
    source_date_epoch: u64,
    /// `AVOCADO_OS_BUILD_ID`: follows from everything that shapes the image.
    build_id: String,
}

/// What an OS image step made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OsImaged {
    pub(crate) image: Made,
    pub(crate) version: Option<String>,
    pub(crate) build_id: String,
}

/// The parent's side of an OS image.
pub(crate) struct OsImageTask<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) part: Part,
    pub(crate) name: &'a Name,
    pub(crate) os: &'a OsImage,
    pub(crate) runtime: &'a Runtime,
    pub(crate) install: TaskId,
    /// The install of the SDK, where a hook may use its tools.
    pub(crate) sdk: Option<TaskId>,
}

impl OsImageTask<'_> {
    fn request(&self, done: &Done<'_>) -> Result<OsImageStep, Error> {
        let (context, os, runtime) = (self.context, self.os, self.runtime);
        let overlay = os.overlay.as_ref();
        let post_install = os.post_install.as_deref();
        let mut step = OsImageStep {
            part: self.part,
            name: self.name.clone(),
            filesystem: os.filesystem,
            overlay: overlay.map(|o| OverlayFiles::new(context, o)).transpose()?,
            post_install: post_install.map(|p| Hook::new(context, p)).transpose()?,
            permissions: os.permissions.clone(),
            runtime: runtime.name.clone(),
            runtime_version: runtime.version.clone(),
            source_date_epoch: context.project.source_date_epoch,
            build_id: String::new(),
        };
        let packages = done.get(self.install)?.digest;
        let sdk = done.digest(self.sdk)?;
        let shape = hash(&serde_json::json!({ "os": step, "packages": packages, "sdk": sdk }));
        step.build_id = Uuid::new_v5(&BUILD_ID_NAMESPACE, shape.as_bytes()).to_string();
        Ok(step)
    }
}

impl Task for OsImageTask<'_> {
    fn name(&self) -> String {
        format!("{} image {}", self.part.as_str(), self.runtime.name)
    }

    fn slot(&self) -> Slot {
        Slot {
            component: "runtime",
            name: Some(self.runtime.name.to_string()),
            command: match self.part {
                Part::Rootfs => "rootfs-image",
                Part::Initramfs => "initramfs-image",
            },
        }
    }

    fn inputs(&self, done: &Done<'_>) -> Result<serde_json::Value, Error> {
        Ok(serde_json::json!({
            "image": self.request(done)?,
            "packages": done.get(self.install)?.digest,
            "sdk": done.digest(self.sdk)?,
            "writer": self.context.tool(image::writer(self.os.filesystem)),
            "tools": [self.context.tool("systemctl"), self.context.tool("ldconfig")],
        }))
    }

    fn outputs(&self, _outcome: &Outcome) -> Vec<PathBuf> {
        let extension = image::extension(self.os.filesystem);
        let layout = &self.context.layout;
        vec![layout.os_image(self.part.as_str(), &self.runtime.name, extension)]
    }

    fn run(&self, done: &Done<'_>, sink: &dyn Sink) -> Result<Outcome, Error> {
        let step = Step::OsImage(self.request(done)?);
        let imaged: OsImaged = self.context.step(&self.name(), step, None, sink)?;
        Ok(Outcome {
            digest: imaged.image.sha256,
            detail: serde_json::to_value(imaged).unwrap_or_default(),
        })
    }
}

impl OsImageStep {
    pub(crate) fn work(self, bench: &Bench<'_>) -> Result<OsImaged, Error> {
        let root = self.prepare(bench)?;
        for file in self.part.releases() {
            self.extend_release(&root, file)?;
        }
        let extension = image::extension(self.filesystem);
        let layout = &bench.layout;
        let place = layout.os_image(self.part.as_str(), &self.runtime, extension);
        let new = tree::unfinished(&place);
        image::write(bench, self.filesystem, &root, &new, &[])?;
        let made = Made::of(&new)?;
        tree::replace(&new, &place)?;
        let mut releases = self.part.releases().iter();
        let version = releases.find_map(|file| release_value(&root, file, "VERSION_ID"));
        tree::clear(&root)?;
        Ok(OsImaged {
            image: made,
            version,
            build_id: self.build_id,
        })
    }

    /// A copy of the installed tree with overlay, users and groups, made fit by the user's hook or
    /// else by what is built in.
    fn prepare(&self, bench: &Bench<'_>) -> Result<PathBuf, Error> {
        let part = self.part.as_str();
        let root = bench.layout.work(&format!("{part}-image-{}", self.runtime));
        tree::fresh(&root)?;
        tree::copy(&bench.layout.os_tree(part, &self.name), &root, Modes::Keep)?;
        for state in PACKAGE_STATE {
            tree::clear(&root.join(state))?;
        }
        if let Some(overlay) = &self.overlay {
            overlay.apply(bench, &root)?;
        }
        if let Some(permissions) = &self.permissions {
            passwd::apply(&root, permissions)?;
        }
        match (&self.post_install, self.part) {
            (Some(hook), _) => {
                let variable = format!("AVOCADO_{}_SYSROOT", part.to_uppercase());
                let root = root.as_os_str();
                hook.run(bench, &[(&variable, root), ("AVOCADO_BUILD_DIR", root)])?;
            }
            (None, Part::Rootfs) => finish_rootfs(bench, &root)?,
            (None, Part::Initramfs) => finish_initramfs(&root)?,
        }
        Ok(root)
    }

    /// Adds our keys to a release file of the tree.
    fn extend_release(&self, root: &Path, file: &str) -> Result<(), Error> {
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
fn release_value(root: &Path, file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(tree::inside(root, Path::new(file))).ok()?;
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(k, _)| *k == key)
        .map(|(_, value)| value.trim_matches(['"', '\'']).to_owned())
}

/// What makes a tree of packages a root file system, where the project has no hook of its own.
fn finish_rootfs(bench: &Bench<'_>, root: &Path) -> Result<(), Error> {
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

/// What makes a tree of packages an initramfs, where the project has no hook of its own.
fn finish_initramfs(root: &Path) -> Result<(), Error> {
    fs::create_dir_all(root.join("sysroot")).at("create", root)?;
    let init = root.join("init");
    if fs::symlink_metadata(&init).is_err() {
        std::os::unix::fs::symlink("/sbin/init", &init).at("create", &init)?;
    }
    Ok(())
}
