//! The images that a stone manifest names, as a step has them: those of the runtime, files, and file
//! systems that are made of both.

use std::path::{Path, PathBuf};

use avocado_engine::Needs;
use avocado_manifest::Name;
use avocado_project::Runtime;
use avocado_stone::{FatImage, StoneImage};
use serde::{Deserialize, Serialize};

use super::os_image::{OsImageOutput, OsImageTasks};
use super::runtime_kernel::{KernelSteps, RuntimeKernel};
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::images::{self, fat, fat::FatSpec};
use crate::layout::Layout;
use crate::step_context::StepContext;
use crate::stone_files::{StoneFile, StonePlace};
use crate::trees::{self, Tree};

/// What the images of a board are made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BoardImages {
    runtime: Name,
    /// The files that the images name.
    files: Vec<StoneFile>,
    pub(crate) rootfs: OsImageOutput,
    /// The end of its file's name.
    rootfs_kind: String,
    pub(crate) initramfs: OsImageOutput,
    /// The end of its file's name.
    initramfs_kind: String,
    kernel: Option<RuntimeKernel>,
    /// The var partition, where it is among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    var: Option<FileDigest>,
}

impl BoardImages {
    /// Those of `runtime`, once the steps that make them are done.
    pub(crate) fn new(
        context: &BuildContext<'_>,
        runtime: &Runtime,
        files: Vec<StoneFile>,
        os: OsImageTasks,
        kernel: &KernelSteps,
        needs: &Needs<'_>,
    ) -> Result<Self, BuildError> {
        let kind = |kind: &'static str, name| {
            let os = context.os_image(kind, name)?;
            Ok::<_, BuildError>(images::extension(os.filesystem).to_owned())
        };
        Ok(BoardImages {
            runtime: runtime.name.clone(),
            files,
            rootfs: needs.output(os.rootfs)?.clone(),
            rootfs_kind: kind("rootfs", &runtime.rootfs)?,
            initramfs: needs.output(os.initramfs)?.clone(),
            initramfs_kind: kind("initramfs", &runtime.initramfs)?,
            kernel: kernel.kernel(needs)?,
            var: None,
        })
    }

    /// The same with a var partition.
    pub(crate) fn with_var(self, var: FileDigest) -> Self {
        BoardImages {
            var: Some(var),
            ..self
        }
    }

    /// The file of an image, which is made at `place` if it is not there.
    pub(crate) fn file(
        &self,
        context: &StepContext<'_>,
        image: &StoneImage,
        place: &Path,
    ) -> Result<PathBuf, BuildError> {
        match image {
            StoneImage::File(file) => self.find(&context.layout, file),
            StoneImage::Made(fat) => self.make(context, fat, place),
        }
    }

    /// Where a file is, with what it was when the step began.
    fn find(&self, layout: &Layout, name: &str) -> Result<PathBuf, BuildError> {
        let image = |part, kind: &str, output: &OsImageOutput| {
            let path = layout.os_image(part, &self.runtime, kind);
            output.image.check(&path)?;
            Ok::<_, BuildError>(path)
        };
        let file = self.files.iter().find(|file| file.name == name);
        let Some(file) = file else {
            return Err(BuildError::Invalid(format!(
                "`{}` was not looked for",
                name.escape_debug()
            )));
        };
        match &file.place {
            StonePlace::Rootfs => image("rootfs", &self.rootfs_kind, &self.rootfs),
            StonePlace::Initramfs => image("initramfs", &self.initramfs_kind, &self.initramfs),
            StonePlace::Var => match &self.var {
                Some(var) => {
                    let path = layout.var_image(&self.runtime);
                    var.check(&path)?;
                    Ok(path)
                }
                None => Err(BuildError::Invalid(format!(
                    "`{}` is only on disks that are provisioned",
                    name.escape_debug()
                ))),
            },
            StonePlace::Kernel => match &self.kernel {
                Some(kernel) => kernel.path(layout, &self.runtime),
                None => Err(BuildError::Invalid(format!(
                    "the stone manifest names the kernel (`{}`), and the runtime `{}` has none: add \
                     `kernel-image: \"*\"` to the packages of its rootfs, or `kernel:` to the runtime",
                    name.escape_debug(),
                    self.runtime
                ))),
            },
            StonePlace::Project(path) => unchanged(file, trees::of_project(path)?),
            StonePlace::Sdk(path) => unchanged(file, Tree::open(&layout.sdk())?.resolve(path)?),
        }
    }

    fn make(
        &self,
        context: &StepContext<'_>,
        image: &FatImage,
        place: &Path,
    ) -> Result<PathBuf, BuildError> {
        let mut files = Vec::new();
        for file in image.files() {
            files.push((
                file.destination(),
                self.find(&context.layout, file.source())?,
            ));
        }
        let spec = FatSpec {
            bits: image.build_args.variant.bits(),
            size: image.size(&image.out)?,
            label: image.build_args.label.as_deref(),
            files,
        };
        fat::write(context, &spec, place)?;
        Ok(place.to_owned())
    }
}

/// The file at `path`, if it is still what was found.
fn unchanged(file: &StoneFile, path: PathBuf) -> Result<PathBuf, BuildError> {
    let content = FileDigest::of(&path)?.sha256;
    if file.content == Some(content) {
        return Ok(path);
    }
    Err(BuildError::Changed { path })
}
