//! The OS bundle of a runtime: what a device writes to its other slot, in one archive.
//!
//! `request` is the child's side, and `archive` the format.

mod archive;
mod request;

use std::path::PathBuf;

use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::{Digest, DigestHasher, ImageId, Name, OsBundle};
use avocado_project::Runtime;
use avocado_stone::StoneImage;
use serde::{Deserialize, Serialize};

pub(crate) use self::request::OsBundleRequest;
use super::board_images::BoardImages;
use super::install::{self, InstallOutput};
use super::os_image::OsImageTasks;
use super::runtime_kernel::{KernelInputs, KernelSteps};
use crate::artifact::Artifact;
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::images::fat;
use crate::needed;
use crate::plan::{BuildStep, Plan};
use crate::stone_files::StoneFiles;
use crate::trees;

/// What was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OsBundleOutput {
    /// `None` where the target has no way to update its OS.
    pub(crate) bundle: Option<BuiltOsBundle>,
}

/// A bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BuiltOsBundle {
    pub(crate) files: OsBundleFiles,
    /// What the rootfs says that it is.
    os_build_id: String,
    /// What the initramfs says that it is, where it says that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    initramfs_build_id: Option<String>,
}

/// The files of a bundle.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct OsBundleFiles {
    pub(crate) archive: FileDigest,
    /// Where the parts of the archive are in it.
    pub(crate) chunks: FileDigest,
}

impl BuiltOsBundle {
    /// As the manifest of the runtime names it.
    pub(crate) fn to_manifest(&self) -> OsBundle {
        OsBundle {
            image_id: ImageId::from_digest(self.files.archive.sha256),
            sha256: Some(self.files.archive.sha256),
            os_build_id: Some(self.os_build_id.clone()),
            initramfs_build_id: self.initramfs_build_id.clone(),
            chunks_sha256: Some(self.files.chunks.sha256),
        }
    }
}

/// Adds the bundle of a runtime, and what it needs. Whether the target has a way to update its OS is
/// known when its SDK is installed.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    runtime: &Name,
) -> Result<TaskId<OsBundleOutput>, BuildError> {
    plan.once(&stamp_key(runtime), |plan| {
        let context = plan.context;
        let runtime = context.runtime(runtime)?;
        needed::for_os_bundle(context.project, runtime)?;
        Ok(OsBundleTask {
            context,
            runtime,
            sdk: install::plan_sdk(plan)?,
            os: OsImageTasks::plan(plan, &runtime.name)?,
            kernel: KernelSteps::plan(plan, runtime)?,
        })
    })
}

fn stamp_key(runtime: &Name) -> StampKey {
    StampKey {
        component: "runtime",
        directory: "runtime",
        name: Some(runtime.to_string()),
        command: "os-bundle",
    }
}

/// The parent's side of a bundle.
struct OsBundleTask<'a> {
    context: &'a BuildContext<'a>,
    runtime: &'a Runtime,
    sdk: TaskId<InstallOutput>,
    os: OsImageTasks,
    kernel: KernelSteps,
}

/// What a bundle consumes; nothing where there is none.
#[derive(Debug, Serialize)]
struct OsBundleInputs {
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<OsBundleRequest>,
    /// Of which the request has the version only, where it is of the feed.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<KernelInputs>,
    /// The tools that make a file system for a boot loader, where one is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[Option<String>; 2]>,
}

impl OsBundleTask<'_> {
    fn request(
        &self,
        needs: &Needs<'_>,
        stone: &StoneFiles<'_>,
    ) -> Result<OsBundleRequest, BuildError> {
        let files = stone.of_update()?;
        let (context, runtime) = (self.context, self.runtime);
        Ok(OsBundleRequest {
            name: runtime.name.clone(),
            stone: stone.text.clone(),
            images: BoardImages::new(context, runtime, files, self.os, &self.kernel, needs)?,
        })
    }

    fn path(&self) -> PathBuf {
        self.context.layout.os_bundle(&self.runtime.name)
    }

    fn chunks(&self) -> PathBuf {
        self.context.layout.os_bundle_chunks(&self.runtime.name)
    }
}

impl Task for OsBundleTask<'_> {
    type Inputs = OsBundleInputs;
    type Output = OsBundleOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("runtime os-bundle {}", self.runtime.name)
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(&self.runtime.name)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        let sdk = std::iter::once(self.sdk.into());
        let needs = sdk.chain(self.os.needs());
        needs.chain(self.kernel.needs()).collect()
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<OsBundleInputs, BuildError> {
        let stone = StoneFiles::of(self.context, self.runtime)?;
        let Some(stone) = stone.filter(|stone| stone.manifest.update.is_some()) else {
            return Ok(OsBundleInputs {
                bundle: None,
                kernel: None,
                tools: None,
            });
        };
        let mut images = stone.images_of_update();
        let makes_fat = images.any(|image| matches!(image, StoneImage::Made(_)));
        let tools = || {
            let tool = |query| self.context.tool(query);
            Ok::<_, BuildError>([tool(&fat::MKFS)?, tool(&fat::MCOPY)?])
        };
        Ok(OsBundleInputs {
            bundle: Some(self.request(needs, &stone)?),
            kernel: Some(self.kernel.inputs(needs)?),
            tools: makes_fat.then(tools).transpose()?,
        })
    }

    fn run(
        &self,
        inputs: &OsBundleInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<OsBundleOutput, BuildError> {
        match &inputs.bundle {
            Some(request) => self.context.run_step(&self.stage(), request.clone(), sink),
            None => {
                self.context.layout.check_runtime(&self.runtime.name)?;
                trees::clear(&self.path())?;
                trees::clear(&self.chunks())?;
                Ok(OsBundleOutput { bundle: None })
            }
        }
    }

    fn output_files(&self, output: &OsBundleOutput) -> Vec<PathBuf> {
        let bundle = output.bundle.iter();
        bundle.flat_map(|_| [self.path(), self.chunks()]).collect()
    }

    fn digest(&self, output: &OsBundleOutput) -> Digest {
        let mut digest = DigestHasher::default();
        if let Some(OsBundleFiles { archive, chunks }) = output.bundle.as_ref().map(|b| b.files) {
            digest.update(archive.sha256.as_bytes());
            digest.update(chunks.sha256.as_bytes());
        }
        digest.finish()
    }
}

impl BuildStep for OsBundleTask<'_> {
    fn artifacts(&self, output: &OsBundleOutput) -> Vec<Artifact> {
        let name = self.runtime.name.to_string();
        let bundle = output.bundle.iter();
        bundle
            .map(|bundle| {
                let archive = bundle.files.archive;
                Artifact::new("os-bundle", name.clone(), self.path(), archive)
            })
            .collect()
    }
}
