//! Turning an extension's sysroot into its image.

use std::path::{Path, PathBuf};

use avocado_events::Sink;
use avocado_manifest::{Digest, Hasher, Name};
use avocado_project::{Extension, Filesystem};
use serde::{Deserialize, Serialize};

use super::{Bench, Context, Made, PACKAGE_STATE, Step};
use crate::graph::{Done, Task, TaskId};
use crate::pattern::Patterns;
use crate::stamp::{Outcome, Slot};
use crate::tree::{self, Modes};
use crate::{Error, image};

/// An image, as it travels to the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExtensionImage {
    name: Name,
    version: Name,
    filesystem: Filesystem,
    var_files: Vec<String>,
    source_date_epoch: u64,
    /// The digest of what `ext build` made.
    sysroot: Digest,
}

/// What an image step made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Imaged {
    pub(crate) image: Made,
    /// What is left out of the image belongs on the var partition: the paths in the sysroot.
    pub(crate) var_paths: Vec<PathBuf>,
    var_content: Digest,
}

/// The parent's side of an image step.
pub(crate) struct ExtensionImageTask<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) extension: &'a Extension,
    pub(crate) build: TaskId,
}

impl ExtensionImageTask<'_> {
    fn request(&self, done: &Done<'_>) -> Result<ExtensionImage, Error> {
        Ok(ExtensionImage {
            name: self.extension.name.clone(),
            version: self.extension.version.clone(),
            filesystem: self.extension.filesystem,
            var_files: self.extension.var_files.clone(),
            source_date_epoch: self.context.project.source_date_epoch,
            sysroot: done.get(self.build)?.digest,
        })
    }
}

impl Task for ExtensionImageTask<'_> {
    fn name(&self) -> String {
        format!("ext image {}", self.extension.name)
    }

    fn slot(&self) -> Slot {
        Slot {
            component: "extension",
            name: Some(self.extension.name.to_string()),
            command: "image",
        }
    }

    fn inputs(&self, done: &Done<'_>) -> Result<serde_json::Value, Error> {
        Ok(serde_json::json!({
            "image": self.request(done)?,
            "writer": self.context.tool(image::writer(self.extension.filesystem)),
        }))
    }

    fn outputs(&self, _outcome: &Outcome) -> Vec<PathBuf> {
        let e = self.extension;
        vec![self.context.layout.extension_image(&e.name, &e.version)]
    }

    fn run(&self, done: &Done<'_>, sink: &dyn Sink) -> Result<Outcome, Error> {
        let step = Step::ExtensionImage(self.request(done)?);
        let imaged: Imaged = self.context.step(&self.name(), step, None, sink)?;
        let mut hasher = Hasher::default();
        hasher.update(imaged.image.sha256.as_bytes());
        hasher.update(imaged.var_content.as_bytes());
        Ok(Outcome {
            digest: hasher.finish(),
            detail: serde_json::to_value(imaged).unwrap_or_default(),
        })
    }
}

impl ExtensionImage {
    pub(crate) fn work(self, bench: &Bench<'_>) -> Result<Imaged, Error> {
        let root = bench.layout.extension(&self.name);
        if tree::digest(&root, Modes::Keep)? != self.sysroot {
            return Err(Error::Changed { path: root });
        }
        let var_paths = Patterns::new(&self.var_files)?.find(&root)?;
        let mut left_out = var_paths.clone();
        left_out.extend(
            PACKAGE_STATE
                .iter()
                .map(PathBuf::from)
                .filter(|path| root.join(path).exists()),
        );
        let place = bench.layout.extension_image(&self.name, &self.version);
        let new = tree::unfinished(&place);
        image::write(bench, self.filesystem, &root, &new, &left_out)?;
        let made = Made::of(&new)?;
        tree::replace(&new, &place)?;
        let mut var_content = Hasher::default();
        for path in &var_paths {
            use std::os::unix::ffi::OsStrExt as _;
            var_content.update(path.as_os_str().as_bytes());
            var_content.update(tree::digest(&root.join(path), Modes::Keep)?.as_bytes());
        }
        Ok(Imaged {
            image: made,
            var_paths,
            var_content: var_content.finish(),
        })
    }
}

/// Where a file that was left out of an image goes on the var partition.
pub(crate) fn var_destination(path: &Path) -> &Path {
    path.strip_prefix("var").unwrap_or(path)
}
