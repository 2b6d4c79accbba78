//! The disks of a target, as files that a machine boots from or that go to its disks: laid out by the
//! stone manifest of a runtime, with everything that this has.
//!
//! Where the SDK has a program for it, `avocado-provision-<target>`, that does it (`program`), and may do more: write to a
//! device over USB, say. Else the images are made here (`request`).

mod program;
mod request;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::{Event, Sink};
use avocado_manifest::{Digest, Name};
use avocado_project::Runtime;
use avocado_stone::{StoneImage, StoneManifest, WayToProvision};
use serde::{Deserialize, Serialize};

pub(crate) use self::program::ProvisionProgramRequest;
pub(crate) use self::request::DiskImageRequest;
use super::board_images::BoardImages;
use super::install::{self, InstallOutput};
use super::os_image::OsImageTasks;
use super::runtime_build::{self, RuntimeBuildOutput};
use super::runtime_kernel::{KernelInputs, KernelSteps};
use super::var_image::{self, VarImageOutput};
use crate::artifact::Artifact;
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::images::{fat, gpt};
use crate::needed;
use crate::plan::{BuildStep, Plan};
use crate::stone_files::StoneFiles;

/// What the artifacts are that images of disks are.
pub const DISK_ARTIFACT: &str = "disk";

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProvisionWish {
    /// The profile of the stone manifest; the default one where none is named.
    pub profile: Option<String>,
    /// Variables of the program that provisions.
    pub variables: BTreeMap<String, String>,
    /// Where that leaves its results: an absolute path, below the sources of the project.
    pub out: Option<PathBuf>,
    /// That what is made is to be written to a device: it has to be the image of one disk.
    pub one_disk: bool,
}

/// What was made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskImageOutput {
    /// The images of disks, by their files' names; none where a program of the target did it.
    disks: Vec<(Name, FileDigest)>,
}

/// Adds the disks of a runtime, and what they need.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    runtime: &Name,
    wish: &ProvisionWish,
) -> Result<TaskId<DiskImageOutput>, BuildError> {
    let key = StampKey {
        component: "runtime",
        directory: "runtime",
        name: Some(runtime.to_string()),
        command: "provision",
    };
    plan.once(&key.clone(), |plan| {
        let context = plan.context;
        let runtime = context.runtime(runtime)?;
        needed::for_os_bundle(context.project, runtime)?;
        Ok(DiskImageTask {
            context,
            runtime,
            key,
            wish: wish.clone(),
            sdk: install::plan_sdk(plan)?,
            os: OsImageTasks::plan(plan, &runtime.name)?,
            kernel: KernelSteps::plan(plan, runtime)?,
            build: runtime_build::plan(plan, &runtime.name)?,
            var: var_image::plan(plan, &runtime.name)?,
        })
    })
}

/// The parent's side of the disks of a runtime.
struct DiskImageTask<'a> {
    context: &'a BuildContext<'a>,
    runtime: &'a Runtime,
    key: StampKey,
    wish: ProvisionWish,
    sdk: TaskId<InstallOutput>,
    os: OsImageTasks,
    kernel: KernelSteps,
    build: TaskId<RuntimeBuildOutput>,
    var: TaskId<VarImageOutput>,
}

/// What provisioning consumes.
#[derive(Debug, Serialize)]
struct DiskImageInputs {
    #[serde(flatten)]
    way: Way,
    /// Of which the way has the version only, where it is of the feed.
    kernel: KernelInputs,
    /// The runtime that is on the disk.
    manifest: FileDigest,
}

/// Who does it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    Image {
        request: Box<DiskImageRequest>,
        tools: [Option<String>; 3],
    },
    Program(ProvisionProgramRequest),
}

impl DiskImageTask<'_> {
    fn way(&self, needs: &Needs<'_>) -> Result<Way, BuildError> {
        let (context, runtime) = (self.context, self.runtime);
        let stone = StoneFiles::of(context, runtime)?;
        let profile = self.wish.profile.as_deref();
        let kernel = self.kernel.kernel(needs)?;
        if let Some(program) = program::find(&context.layout, &context.project.target)? {
            self.refuse_device_of_program(&program)?;
            let manifest = stone.as_ref().map(|stone| &stone.manifest);
            let way = manifest.map_or_else(
                || WayToProvision::without_manifest(profile),
                |manifest| manifest.way_of_program(profile),
            );
            let request = ProvisionProgramRequest {
                program,
                runtime: runtime.name.clone(),
                variables: program::variables(context, runtime, &way, &self.wish, kernel.as_ref())?,
            };
            return Ok(Way::Program(request));
        }
        let Some(stone) = stone else {
            return Err(BuildError::Invalid(format!(
                "nothing says how the disks of `{}` are laid out: state `stone_manifest` for the runtime \
                 `{}`, or add the package with stone/stone-{}.json to `sdk.packages`",
                context.project.target, runtime.name, context.project.target
            )));
        };
        let way = stone.manifest.way_to_provision(profile)?;
        self.refuse_what_only_programs_do(&way)?;
        self.refuse_many_disks(&stone.manifest)?;
        let images = || {
            let disks = stone.manifest.storage_devices.values();
            disks.flat_map(|disk| {
                let wanted = disk.partitions.iter().filter_map(|p| p.image.as_ref());
                wanted.filter_map(|name| disk.images.get(name))
            })
        };
        let files = stone.sources_of(images())?;
        let makes_fat = images().any(|image| matches!(image, StoneImage::Made(_)));
        let tool = |query, is_needed: bool| {
            if is_needed {
                context.tool(query)
            } else {
                Ok(None)
            }
        };
        let board = BoardImages::new(context, runtime, files, self.os, &self.kernel, needs)?;
        Ok(Way::Image {
            tools: [
                tool(&gpt::SFDISK, true)?,
                tool(&fat::MKFS, makes_fat)?,
                tool(&fat::MCOPY, makes_fat)?,
            ],
            request: Box::new(DiskImageRequest {
                name: runtime.name.clone(),
                images: board.with_var(needs.output(self.var)?.image),
                stone: stone.text,
            }),
        })
    }

    /// What was asked for, or is stated, and would be left undone.
    fn refuse_what_only_programs_do(&self, way: &WayToProvision) -> Result<(), BuildError> {
        let target = &self.context.project.target;
        let refused = |what: String| {
            Err(BuildError::Invalid(format!(
                "{what}, which takes `avocado-provision-{target}`, and the SDK has none: add the package that \
                 brings it to `sdk.packages`"
            )))
        };
        if let Some(script) = &way.script {
            let profile = way.profile.as_deref().unwrap_or("default");
            return refused(format!(
                "the profile `{}` is the script `{}`",
                profile.escape_debug(),
                script.escape_debug()
            ));
        }
        if let Some(name) = self.wish.variables.keys().next() {
            return refused(format!(
                "`{}` is a variable of a program",
                name.escape_debug()
            ));
        }
        Ok(())
    }

    /// What a program makes it knows alone, and nothing is published by which it would be told of a device.
    fn refuse_device_of_program(&self, program: &Path) -> Result<(), BuildError> {
        if !self.wish.one_disk {
            return Ok(());
        }
        Err(BuildError::Invalid(format!(
            "--device writes an image that is made here, and for {} the program {} of the SDK provisions, in its \
             own way: run the command without --device; its package says what it writes to, and which \
             variable (--env) names that",
            self.context.project.target,
            program.display()
        )))
    }

    fn refuse_many_disks(&self, stone: &StoneManifest) -> Result<(), BuildError> {
        let disks: Vec<&str> = stone.storage_devices.keys().map(|name| &**name).collect();
        if !self.wish.one_disk || disks.len() < 2 {
            return Ok(());
        }
        Err(BuildError::Invalid(format!(
            "the stone manifest has {} disks ({}), and --device writes one: copy their images with --out \
             DIRECTORY, and write each by hand",
            disks.len(),
            disks.join(", ").escape_debug()
        )))
    }

    fn tell_what_has_no_effect(&self, sink: &dyn Sink) -> Result<(), BuildError> {
        if let Some(stone) = StoneFiles::of(self.context, self.runtime)? {
            for key in stone.manifest.provision.without_effect() {
                let message =
                    format!("{key} in the stone manifest has no effect: nothing reads it");
                sink.emit(Event::warning(message));
            }
        }
        for profile in &self.context.project.provision_profiles {
            let name = profile.name.escape_debug();
            let message = format!("provision_profiles.{name} has no effect: nothing reads it");
            sink.emit(Event::warning(message));
        }
        Ok(())
    }

    fn directory(&self) -> PathBuf {
        self.context.layout.disk_images(&self.runtime.name)
    }
}

impl Task for DiskImageTask<'_> {
    type Inputs = DiskImageInputs;
    type Output = DiskImageOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("provision {}", self.runtime.name)
    }

    fn stamp_key(&self) -> StampKey {
        self.key.clone()
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        let rest = [self.sdk.into(), self.build.into(), self.var.into()];
        let needs = self.os.needs().into_iter().chain(rest);
        needs.chain(self.kernel.needs()).collect()
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<DiskImageInputs, BuildError> {
        Ok(DiskImageInputs {
            way: self.way(needs)?,
            kernel: self.kernel.inputs(needs)?,
            manifest: needs.output(self.build)?.manifest,
        })
    }

    /// A program may write to a device: it does that each time it is asked to.
    fn is_made_of(&self, inputs: &DiskImageInputs, _output: &DiskImageOutput) -> bool {
        matches!(inputs.way, Way::Image { .. })
    }

    fn run(
        &self,
        inputs: &DiskImageInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<DiskImageOutput, BuildError> {
        let context = self.context;
        context.layout.check_runtime(&self.runtime.name)?;
        self.tell_what_has_no_effect(sink)?;
        match &inputs.way {
            Way::Image { request, .. } => {
                context.run_step(&self.stage(), (**request).clone(), sink)
            }
            Way::Program(request) => {
                let done = context.run_step(&self.stage(), request.clone(), sink)?;
                let place = done.left_files.then(|| self.directory());
                for place in place.iter().chain(&self.wish.out) {
                    if fs::metadata(place).is_ok() {
                        let message = format!(
                            "what the program of the target made is in {}",
                            place.display()
                        );
                        sink.emit(Event::info(message));
                    }
                }
                Ok(DiskImageOutput { disks: Vec::new() })
            }
        }
    }

    fn output_files(&self, output: &DiskImageOutput) -> Vec<PathBuf> {
        let names = output.disks.iter().map(|(name, _)| name);
        names.map(|name| self.directory().join(name)).collect()
    }

    fn digest(&self, output: &DiskImageOutput) -> Digest {
        let digests: String = output
            .disks
            .iter()
            .map(|(_, disk)| disk.sha256.to_string())
            .collect();
        Digest::of(digests.as_bytes())
    }
}

impl BuildStep for DiskImageTask<'_> {
    fn artifacts(&self, output: &DiskImageOutput) -> Vec<Artifact> {
        let disks = output.disks.iter();
        let artifact = |(name, disk): &(Name, FileDigest)| {
            let path = self.directory().join(name);
            Artifact::new(DISK_ARTIFACT, self.runtime.name.to_string(), path, *disk)
        };
        disks.map(artifact).collect()
    }
}
