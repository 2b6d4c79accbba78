//! Turning an installed initramfs into the image of one runtime.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use avocado_events::Sink;
use avocado_project::{OsImage, Runtime};
use serde::{Deserialize, Serialize};

use super::rootfs_image::{OsImaged, OsTree, release_value};
use super::{Bench, Context, Made, Step};
use crate::error::At as _;
use crate::graph::{Done, Task, TaskId};
use crate::stamp::{Outcome, Slot};
use crate::{Error, image, tree};

/// The release files of an initramfs, the first that is there says its version.
const RELEASE_FILES: [&str; 2] = ["usr/lib/initrd-release", "usr/lib/os-release-initrd"];

/// An initramfs image, as it travels to the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InitramfsImage(OsTree);

/// The parent's side of an initramfs image.
pub(crate) struct InitramfsImageTask<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) runtime: &'a Runtime,
    pub(crate) os: &'a OsImage,
    pub(crate) install: TaskId,
}

impl InitramfsImageTask<'_> {
    fn request(&self, done: &Done<'_>) -> Result<InitramfsImage, Error> {
        let packages = done.get(self.install)?.digest;
        let name = &self.runtime.initramfs;
        let tree = OsTree::new(self.context, name, self.os, self.runtime, packages)?;
        Ok(InitramfsImage(tree))
    }
}

impl Task for InitramfsImageTask<'_> {
    fn name(&self) -> String {
        format!("initramfs image {}", self.runtime.name)
    }

    fn slot(&self) -> Slot {
        Slot {
            component: "runtime",
            name: Some(self.runtime.name.to_string()),
            command: "initramfs-image",
        }
    }

    fn inputs(&self, done: &Done<'_>) -> Result<serde_json::Value, Error> {
        Ok(serde_json::json!({
            "image": self.request(done)?,
            "packages": done.get(self.install)?.digest,
            "writer": self.context.tool(image::writer(self.os.filesystem)),
        }))
    }

    fn outputs(&self) -> Vec<PathBuf> {
        let extension = image::extension(self.os.filesystem);
        vec![
            self.context
                .layout
                .initramfs_image(&self.runtime.name, extension),
        ]
    }

    fn run(&self, done: &Done<'_>, sink: &dyn Sink) -> Result<Outcome, Error> {
        let step = Step::InitramfsImage(self.request(done)?);
        let imaged: OsImaged = self.context.step(&self.name(), step, None, sink)?;
        Ok(imaged.outcome())
    }
}

impl InitramfsImage {
    pub(crate) fn work(self, bench: &Bench<'_>) -> Result<OsImaged, Error> {
        let os = self.0;
        let (root, hooked) = os.prepare(bench, "initramfs")?;
        if !hooked {
            fs::create_dir_all(root.join("sysroot")).at("create", &root)?;
            let init = root.join("init");
            if fs::symlink_metadata(&init).is_err() {
                symlink("/sbin/init", &init).at("create", &init)?;
            }
        }
        for file in RELEASE_FILES {
            os.extend_release(&root, file)?;
        }
        let extension = image::extension(os.filesystem);
        let place = bench.layout.initramfs_image(&os.runtime, extension);
        let new = tree::unfinished(&place);
        image::write(bench, os.filesystem, &root, &new, &[])?;
        let made = Made::of(&new)?;
        tree::replace(&new, &place)?;
        let version = RELEASE_FILES
            .iter()
            .find_map(|file| release_value(&root, file, "VERSION_ID"));
        tree::clear(&root)?;
        Ok(OsImaged {
            image: made,
            version,
            build_id: os.build_id,
        })
    }
}
