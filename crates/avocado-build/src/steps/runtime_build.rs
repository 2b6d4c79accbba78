//! Assembling a runtime: its manifest, which says what belongs together.

use std::path::PathBuf;

use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::{Event, Sink};
use avocado_manifest::{
    Digest, ImageId, MANIFEST_VERSION, Manifest, Name, OsImage, RuntimeExtension, RuntimeId,
    RuntimeLabel,
};
use avocado_project::Runtime;
use serde::{Deserialize, Serialize};

use super::extension_image::{self, ExtensionImageOutput};
use super::install::{self, InstallOutput};
use super::os_bundle::{self, BuiltOsBundle, OsBundleFiles, OsBundleOutput};
use super::os_image::{self, OsImageOutput, OsPart};
use super::runtime_kernel::{KernelInputs, KernelSteps, RuntimeKernel};
use super::runtime_member::{self, RuntimeMember};
use crate::artifact::Artifact;
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::needed;
use crate::plan::{BuildStep, Plan};
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees;

/// An assembly, as it travels to the child. What is only on the var partition is no part of it: see
/// `var_image`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RuntimeBuildRequest {
    name: Name,
    version: Option<String>,
    built_at: String,
    extensions: Vec<RuntimeMember>,
    /// The name of the rootfs, which the extensions are compared with.
    rootfs_tree: Name,
    rootfs: OsImageOutput,
    initramfs: OsImageOutput,
    kernel: Option<RuntimeKernel>,
    packages: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    os_bundle: Option<BuiltOsBundle>,
}

/// What an assembly made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RuntimeBuildOutput {
    pub(crate) id: RuntimeId,
    /// Its version, whether stated or not.
    pub(crate) version: String,
    pub(crate) manifest: FileDigest,
    /// The bundle that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) os_bundle: Option<OsBundleFiles>,
    /// What was told of how its extensions fit over one another and over the rootfs.
    #[serde(default)]
    pub(crate) findings: Vec<String>,
}

/// Adds the assembly of a runtime, and what it needs.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    runtime: &Name,
) -> Result<TaskId<RuntimeBuildOutput>, BuildError> {
    plan.once(&stamp_key(runtime), |plan| {
        let context = plan.context;
        let runtime = context.runtime(runtime)?;
        needed::for_runtime_build(context.project, runtime)?;
        let kernel = KernelSteps::plan(plan, runtime)?;
        let rootfs = os_image::plan(plan, OsPart::Rootfs, &runtime.name)?;
        let initramfs = os_image::plan(plan, OsPart::Initramfs, &runtime.name)?;
        let packages = install::plan_runtime(plan, runtime)?;
        let os_bundle = os_bundle::plan(plan, &runtime.name)?;
        let images = plan_images(plan, runtime)?;
        Ok(RuntimeBuildTask {
            context,
            runtime,
            images,
            rootfs,
            kernel,
            initramfs,
            packages,
            os_bundle,
        })
    })
}

fn stamp_key(runtime: &Name) -> StampKey {
    StampKey {
        component: "runtime",
        directory: "runtime",
        name: Some(runtime.to_string()),
        command: "build",
    }
}

/// The parent's side of an assembly.
struct RuntimeBuildTask<'a> {
    context: &'a BuildContext<'a>,
    runtime: &'a Runtime,
    /// The images of its extensions, in the order of the runtime's list.
    images: Vec<TaskId<ExtensionImageOutput>>,
    rootfs: TaskId<OsImageOutput>,
    kernel: KernelSteps,
    initramfs: TaskId<OsImageOutput>,
    packages: Option<TaskId<InstallOutput>>,
    os_bundle: TaskId<OsBundleOutput>,
}

/// What an assembly consumes.
#[derive(Debug, Serialize)]
struct RuntimeBuildInputs {
    revision: u32,
    runtime: RuntimeBuildRequest,
    /// Of which the request has the version only, where it is of the feed.
    kernel: KernelInputs,
}

/// Counts how often the same inputs came to mean another result. The last was what is told of how
/// extensions fit together.
const REVISION: u32 = 1;

impl RuntimeBuildTask<'_> {
    fn request(&self, needs: &Needs<'_>) -> Result<RuntimeBuildRequest, BuildError> {
        let (context, runtime) = (self.context, self.runtime);
        let epoch = i64::try_from(context.project.source_date_epoch).unwrap_or(i64::MAX);
        let built_at = jiff::Timestamp::from_second(epoch)
            .map_err(|e| BuildError::Invalid(format!("source_date_epoch is out of range: {e}")))?;
        Ok(RuntimeBuildRequest {
            name: runtime.name.clone(),
            version: runtime.version.clone(),
            built_at: built_at.to_string(),
            extensions: members(context, runtime, &self.images, needs)?,
            rootfs_tree: runtime.rootfs.clone(),
            rootfs: needs.output(self.rootfs)?.clone(),
            initramfs: needs.output(self.initramfs)?.clone(),
            kernel: self.kernel.kernel(needs)?,
            packages: needs.optional_digest(self.packages)?,
            os_bundle: needs.output(self.os_bundle)?.bundle.clone(),
        })
    }
}

impl Task for RuntimeBuildTask<'_> {
    type Inputs = RuntimeBuildInputs;
    type Output = RuntimeBuildOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("runtime build {}", self.runtime.name)
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(&self.runtime.name)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        let mut needs: Vec<AnyTaskId> = self.kernel.needs().collect();
        needs.extend([AnyTaskId::from(self.rootfs), self.initramfs.into()]);
        needs.push(self.os_bundle.into());
        needs.extend(self.packages.map(AnyTaskId::from));
        needs.extend(self.images.iter().map(|id| AnyTaskId::from(*id)));
        needs
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<RuntimeBuildInputs, BuildError> {
        Ok(RuntimeBuildInputs {
            revision: REVISION,
            runtime: self.request(needs)?,
            kernel: self.kernel.inputs(needs)?,
        })
    }

    fn run(
        &self,
        inputs: &RuntimeBuildInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<RuntimeBuildOutput, BuildError> {
        let request = inputs.runtime.clone();
        self.context.run_step(&self.stage(), request, sink)
    }

    fn output_files(&self, _output: &RuntimeBuildOutput) -> Vec<PathBuf> {
        let (layout, name) = (&self.context.layout, &self.runtime.name);
        vec![layout.manifest(name)]
    }

    fn digest(&self, output: &RuntimeBuildOutput) -> Digest {
        output.manifest.sha256
    }
}

/// Adds the images of a runtime's extensions, in the order of its list.
pub(super) fn plan_images(
    plan: &mut Plan<'_>,
    runtime: &Runtime,
) -> Result<Vec<TaskId<ExtensionImageOutput>>, BuildError> {
    let members = runtime.extensions.iter();
    members
        .map(|member| extension_image::plan(plan, &member.name))
        .collect()
}

/// The extensions of a runtime, with their `images`.
pub(super) fn members(
    context: &BuildContext<'_>,
    runtime: &Runtime,
    images: &[TaskId<ExtensionImageOutput>],
    needs: &Needs<'_>,
) -> Result<Vec<RuntimeMember>, BuildError> {
    let mut members = Vec::new();
    for (member, image) in runtime.extensions.iter().zip(images) {
        let extension = context.extension(&member.name)?;
        members.push(RuntimeMember {
            name: member.name.clone(),
            version: context.version_of(extension)?.clone(),
            enabled: member.enabled,
            sysext: extension.sysext,
            confext: extension.confext,
            enable_services: extension.enable_services.clone(),
            image: needs.output(*image)?.clone(),
        });
    }
    Ok(members)
}

impl BuildStep for RuntimeBuildTask<'_> {
    fn artifacts(&self, output: &RuntimeBuildOutput) -> Vec<Artifact> {
        let (layout, name) = (&self.context.layout, &self.runtime.name);
        let titled = format!("{name} {}", output.id.short());
        let manifest = layout.manifest(name);
        vec![Artifact::new("manifest", titled, manifest, output.manifest)]
    }
}

impl StepRequest for RuntimeBuildRequest {
    const KIND: &'static str = "runtime_build";
    type Result = RuntimeBuildOutput;

    fn work(self, context: &StepContext<'_>) -> Result<RuntimeBuildOutput, BuildError> {
        let layout = &context.layout;
        let rootfs = layout.os_tree("rootfs", &self.rootfs_tree);
        let findings = runtime_member::findings(layout, &rootfs, &self.extensions)?;
        for told in &findings {
            context.sink.emit(Event::warning(told.clone()));
        }
        let manifest = self.manifest(context)?;
        let manifest_place = layout.manifest(&self.name);
        trees::write(&manifest_place, manifest.to_json()?)?;
        Ok(RuntimeBuildOutput {
            id: manifest.id,
            version: manifest.runtime.version,
            manifest: FileDigest::of(&manifest_place)?,
            os_bundle: self.os_bundle.map(|bundle| bundle.files),
            findings,
        })
    }
}

impl RuntimeBuildRequest {
    fn manifest(&self, context: &StepContext<'_>) -> Result<Manifest, BuildError> {
        let os_image = |os: &OsImageOutput| OsImage {
            version: os.version.clone(),
            image_id: ImageId::from_digest(os.image.sha256),
            sha256: Some(os.image.sha256),
            image_type: None,
        };
        let kernel = match &self.kernel {
            Some(kernel) => {
                let file = FileDigest::of(&kernel.path(&context.layout, &self.name)?)?;
                Some(OsImage {
                    version: kernel.version().map(ToOwned::to_owned),
                    image_id: ImageId::from_digest(file.sha256),
                    sha256: Some(file.sha256),
                    image_type: None,
                })
            }
            None => None,
        };
        let member = |member: &RuntimeMember| RuntimeExtension {
            name: member.name.clone(),
            version: member.version.clone(),
            image_id: Some(ImageId::from_digest(member.image.image.sha256)),
            sha256: Some(member.image.image.sha256),
            image_type: None,
            enabled: member.enabled,
        };
        let mut manifest = Manifest {
            manifest_version: MANIFEST_VERSION,
            id: RuntimeId::from_digest(Digest::of(b"")),
            built_at: self.built_at.clone(),
            runtime: RuntimeLabel {
                name: self.name.to_string(),
                version: self.version.clone().unwrap_or_default(),
            },
            rootfs: Some(os_image(&self.rootfs)),
            initramfs: Some(os_image(&self.initramfs)),
            kernel,
            extensions: self.extensions.iter().map(member).collect(),
            os_bundle: self.os_bundle.as_ref().map(BuiltOsBundle::to_manifest),
        };
        if self.version.is_none() {
            // A version that nobody states follows from the content, as the id does.
            manifest.runtime.version = manifest.content_id()?.short().to_owned();
        }
        manifest.id = manifest.content_id()?;
        Ok(manifest)
    }
}
