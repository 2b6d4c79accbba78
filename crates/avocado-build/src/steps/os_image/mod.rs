//! Turning an installed rootfs or initramfs into the image of one runtime.
//!
//! `request` is the child's side; `finish` is what it does where the project has no hook, and `release`
//! what the files say by which a system is known.

mod finish;
mod release;
mod request;

use std::path::PathBuf;

use avocado_engine::{AnyTaskId, InputsHash, Needs, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::{Digest, Name};
use avocado_project::{OsImageConfig, Runtime};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::finish::LDCONFIG;
pub(crate) use self::request::OsImageRequest;
use super::compiled_package::CompiledPackage;
use super::hook::Hook;
use super::install::{self, InstallOutput, PackageTree};
use super::overlay::{CopiedOverlay, OverlayFiles};
use super::runtime_kernel::{KernelSteps, RuntimeKernel};
use super::scripts::{ScriptInputs, Scripts};
use crate::artifact::Artifact;
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::images;
use crate::kept_warnings::{self, KeptWarnings};
use crate::needed;
use crate::plan::{BuildStep, Plan};
use crate::scriptlets::SYSTEMCTL;
use crate::shared_environment;
use crate::stone_files::StoneFiles;

/// Which of the two file systems of an OS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OsPart {
    Rootfs,
    Initramfs,
}

impl OsPart {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            OsPart::Rootfs => "rootfs",
            OsPart::Initramfs => "initramfs",
        }
    }
}

/// What an OS image step made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OsImageOutput {
    pub(crate) image: FileDigest,
    pub(crate) version: Option<String>,
    pub(crate) build_id: String,
    /// Whether it says so itself, in a release file.
    #[serde(default)]
    states_build_id: bool,
    /// The overlay, as it was when it was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overlay: Option<CopiedOverlay>,
    /// What was warned of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl OsImageOutput {
    /// The build id that a device reads in it, where it has a release file to read.
    pub(super) fn stated_build_id(&self) -> Option<String> {
        self.states_build_id.then(|| self.build_id.clone())
    }
}

/// Adds an OS image of a runtime, and what it needs.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    part: OsPart,
    runtime: &Name,
) -> Result<TaskId<OsImageOutput>, BuildError> {
    plan.once(&stamp_key(part, runtime), |plan| {
        let context = plan.context;
        let runtime = context.runtime(runtime)?;
        let (name, tree) = match part {
            OsPart::Rootfs => {
                let name = &runtime.rootfs;
                (name, PackageTree::Rootfs(name.clone()))
            }
            OsPart::Initramfs => {
                let name = &runtime.initramfs;
                (name, PackageTree::Initramfs(name.clone()))
            }
        };
        let os = context.os_image(part.as_str(), name)?;
        needed::for_os_image(context.project, &stage(part, &runtime.name), os)?;
        let packages = install::plan_tree(plan, &tree)?;
        let kernel = match part {
            OsPart::Rootfs if runtime.compiles_kernel() => Some(KernelSteps::plan(plan, runtime)?),
            _ => None,
        };
        let has_hook = os.post_install.is_some();
        let scripts = Scripts::plan(plan, &os.project_packages, has_hook)?;
        Ok(OsImageTask {
            context,
            part,
            name,
            os,
            runtime,
            packages,
            kernel,
            scripts,
        })
    })
}

/// The steps of both images of a runtime.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OsImageTasks {
    pub(crate) rootfs: TaskId<OsImageOutput>,
    pub(crate) initramfs: TaskId<OsImageOutput>,
}

impl OsImageTasks {
    /// Adds both, and what they need.
    pub(crate) fn plan(plan: &mut Plan<'_>, runtime: &Name) -> Result<Self, BuildError> {
        Ok(OsImageTasks {
            rootfs: self::plan(plan, OsPart::Rootfs, runtime)?,
            initramfs: self::plan(plan, OsPart::Initramfs, runtime)?,
        })
    }

    /// Those whose results are read.
    pub(crate) fn needs(self) -> [AnyTaskId; 2] {
        [self.rootfs.into(), self.initramfs.into()]
    }
}

fn stamp_key(part: OsPart, runtime: &Name) -> StampKey {
    StampKey {
        component: "runtime",
        directory: "runtime",
        name: Some(runtime.to_string()),
        command: match part {
            OsPart::Rootfs => "rootfs-image",
            OsPart::Initramfs => "initramfs-image",
        },
    }
}

fn stage(part: OsPart, runtime: &Name) -> String {
    format!("{} image {runtime}", part.as_str())
}

/// The parent's side of an OS image.
struct OsImageTask<'a> {
    context: &'a BuildContext<'a>,
    part: OsPart,
    name: &'a Name,
    os: &'a OsImageConfig,
    runtime: &'a Runtime,
    packages: TaskId<InstallOutput>,
    /// Of a rootfs, whose build id stands for the kernel too; where the project compiles it.
    kernel: Option<KernelSteps>,
    scripts: Scripts,
}

/// Counts how often the same inputs came to mean another result: what was made before is not good any
/// more. The last was that it is told whether an image states its build id.
const REVISION: u32 = 4;

/// What an OS image consumes.
#[derive(Debug, Serialize)]
struct OsImageInputs {
    revision: u32,
    image: OsImageRequest,
    packages: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    scripts: Option<ScriptInputs>,
    /// The tool that writes the format.
    writer: Option<String>,
    /// The tools that prepare the tree.
    tools: [Option<String>; 2],
}

/// What the build id of an OS image follows from: the request without the id, and the packages.
#[derive(Debug, Serialize)]
struct BuildIdSource<'r> {
    os: &'r OsImageRequest,
    packages: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    board: Option<Board>,
}

/// What a device boots beside its rootfs, by which an update is known as well: kernel, boot loader, and
/// how they are told to start.
#[derive(Debug, Serialize)]
struct Board {
    stone: InputsHash,
    /// Of the feed it comes with the packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<RuntimeKernel>,
}

impl OsImageTask<'_> {
    fn request(&self, needs: &Needs<'_>) -> Result<OsImageRequest, BuildError> {
        let packages = needs.digest(self.packages)?;
        let (context, os, runtime) = (self.context, self.os, self.runtime);
        let overlay = os.overlay.as_ref();
        let post_install = os.post_install.as_ref();
        let mut request = OsImageRequest {
            part: self.part,
            name: self.name.clone(),
            filesystem: os.filesystem,
            compiled: CompiledPackage::all_where_written(context, &os.project_packages)?,
            overlay: overlay
                .map(|o| OverlayFiles::new(context, &context.files_at(&o.place.file), o))
                .transpose()?,
            post_install: post_install
                .map(|p| Hook::new(&context.files_at(&p.place.file), p))
                .transpose()?,
            permissions: os.permissions.clone(),
            runtime: runtime.name.clone(),
            runtime_version: runtime.version.clone(),
            source_date_epoch: context.project.source_date_epoch,
            build_id_source: String::new(),
        };
        let source = BuildIdSource {
            os: &request,
            packages,
            board: self.board(needs)?,
        };
        request.build_id_source = InputsHash::of(&source)?.to_string();
        Ok(request)
    }

    /// None where the target has no way to update its OS.
    fn board(&self, needs: &Needs<'_>) -> Result<Option<Board>, BuildError> {
        if self.part != OsPart::Rootfs {
            return Ok(None);
        }
        let Some(stone) = StoneFiles::of(self.context, self.runtime)? else {
            return Ok(None);
        };
        let Some(stone) = stone.update_hash()? else {
            return Ok(None);
        };
        let kernel = self.kernel.as_ref().map(|kernel| kernel.kernel(needs));
        Ok(Some(Board {
            stone,
            kernel: kernel.transpose()?.flatten(),
        }))
    }

    fn path(&self) -> PathBuf {
        let extension = images::extension(self.os.filesystem);
        let layout = &self.context.layout;
        layout.os_image(self.part.as_str(), &self.runtime.name, extension)
    }
}

impl Task for OsImageTask<'_> {
    type Inputs = OsImageInputs;
    type Output = OsImageOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        stage(self.part, &self.runtime.name)
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(self.part, &self.runtime.name)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        let packages = AnyTaskId::from(self.packages);
        let kernel = self.kernel.iter().flat_map(KernelSteps::needs);
        std::iter::once(packages)
            .chain(kernel)
            .chain(self.scripts.needs())
            .collect()
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<OsImageInputs, BuildError> {
        let packages = needs.digest(self.packages)?;
        let files = self.context.files();
        Ok(OsImageInputs {
            revision: REVISION,
            image: self.request(needs)?,
            packages,
            scripts: self.scripts.inputs(self.context, &files, needs)?,
            writer: match images::writer(self.os.filesystem) {
                Some(writer) => self.context.tool(writer)?,
                None => None,
            },
            tools: [
                self.context.tool(&SYSTEMCTL)?,
                self.context.tool(&LDCONFIG)?,
            ],
        })
    }

    fn recorded_inputs(&self, before: OsImageInputs) -> Result<OsImageInputs, BuildError> {
        Ok(OsImageInputs {
            scripts: before.scripts.map(ScriptInputs::recorded),
            ..before
        })
    }

    fn run(
        &self,
        inputs: &OsImageInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<OsImageOutput, BuildError> {
        images::check_writer(self.os.filesystem, inputs.writer.as_deref())?;
        let mut request = inputs.image.clone();
        if let (Some(files), Some(overlay)) = (&mut request.overlay, &self.os.overlay) {
            let place = self.context.files_at(&overlay.place.file);
            files.fill(self.context, &place, overlay, sink)?;
        }
        let warnings = KeptWarnings::new(sink);
        let output = self.context.run_step(&self.stage(), request, &warnings)?;
        Ok(OsImageOutput {
            warnings: warnings.into_texts(),
            ..output
        })
    }

    fn is_made_of(&self, inputs: &OsImageInputs, output: &OsImageOutput) -> bool {
        let overlay = inputs.image.overlay.as_ref();
        overlay.is_none_or(|overlay| overlay.is(output.overlay))
    }

    fn output_files(&self, _output: &OsImageOutput) -> Vec<PathBuf> {
        vec![self.path()]
    }

    fn digest(&self, output: &OsImageOutput) -> Digest {
        output.image.sha256
    }

    fn file_digests(&self, output: &OsImageOutput) -> Vec<(PathBuf, Digest)> {
        vec![(self.path(), output.image.sha256)]
    }

    /// What scripts make hangs on whatever they find on a machine.
    fn shared_environment(&self) -> Result<Option<Value>, BuildError> {
        let runs_scripts = self.scripts.any();
        Ok((!runs_scripts).then(|| shared_environment::of_image(self.context)))
    }

    fn restored(&self, output: &OsImageOutput, sink: &dyn Sink) -> Result<(), BuildError> {
        kept_warnings::tell(&output.warnings, &self.stage(), sink);
        Ok(())
    }
}

impl BuildStep for OsImageTask<'_> {
    fn artifacts(&self, output: &OsImageOutput) -> Vec<Artifact> {
        let name = self.runtime.name.to_string();
        let kind = self.part.as_str();
        vec![Artifact::new(kind, name, self.path(), output.image)]
    }
}
