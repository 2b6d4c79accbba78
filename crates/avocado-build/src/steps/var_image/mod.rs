//! The var partition of a runtime: its content with the runtime staged and active, and its image.
//! Nothing else is made of it but the image of a VM: manifest and repository are there before.

mod request;
mod subvolumes;
mod told;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::{Digest, Name};
use avocado_project::Runtime;
use serde::{Deserialize, Serialize};

use super::container_store::{self, ContainerStoreOutput};
use super::extension_image::ExtensionImageOutput;
use super::hook::Hook;
use super::install::{self, InstallOutput};
use super::runtime_build::{self, RuntimeBuildOutput};
use super::runtime_compile::{self, RuntimeCompileOutput};
use super::scripts::{ScriptInputs, Scripts};
use crate::artifact::Artifact;
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::images;
use crate::images::btrfs::BtrfsSpec;
use crate::keys::RuntimeKey;
use crate::needed;
use crate::plan::{BuildStep, Plan};
use crate::trees;
use told::told;

pub(crate) use request::VarImageRequest;

/// What was made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VarImageOutput {
    pub(crate) image: FileDigest,
}

/// Adds the var partition of a runtime, and what it needs.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    runtime: &Name,
) -> Result<TaskId<VarImageOutput>, BuildError> {
    plan.once(&stamp_key(runtime), |plan| {
        let context = plan.context;
        let runtime = context.runtime(runtime)?;
        needed::for_var_image(context.project, runtime)?;
        let build = runtime_build::plan(plan, &runtime.name)?;
        let scripts = Scripts::plan(plan, &[], runtime.post_build.is_some())?;
        Ok(VarImageTask {
            context,
            runtime,
            key: plan.runtime_key(runtime)?,
            build,
            images: runtime_build::plan_images(plan, runtime)?,
            packages: install::plan_runtime(plan, runtime)?,
            compiled: runtime_compile::plan(plan, runtime)?,
            containers: container_store::plan(plan, runtime)?,
            scripts,
        })
    })
}

fn stamp_key(runtime: &Name) -> StampKey {
    StampKey {
        component: "runtime",
        directory: "runtime",
        name: Some(runtime.to_string()),
        command: "var",
    }
}

/// The parent's side of a var partition.
struct VarImageTask<'a> {
    context: &'a BuildContext<'a>,
    runtime: &'a Runtime,
    key: Arc<RuntimeKey>,
    build: TaskId<RuntimeBuildOutput>,
    /// The images of its extensions, in the order of the runtime's list.
    images: Vec<TaskId<ExtensionImageOutput>>,
    /// The runtime's own packages, which a hook may look at.
    packages: Option<TaskId<InstallOutput>>,
    /// What the project's scripts put beside them.
    compiled: Option<TaskId<RuntimeCompileOutput>>,
    /// The container images that a device has from the start.
    containers: Option<TaskId<ContainerStoreOutput>>,
    scripts: Scripts,
}

/// What a var partition consumes.
#[derive(Debug, Serialize)]
struct VarImageInputs {
    var: VarImageRequest,
    /// The tool that writes the image.
    writer: Option<String>,
    packages: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compiled: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scripts: Option<ScriptInputs>,
}

impl VarImageTask<'_> {
    fn request(&self, needs: &Needs<'_>) -> Result<VarImageRequest, BuildError> {
        let (context, runtime) = (self.context, self.runtime);
        let mut var_files = Vec::new();
        for file in &runtime.var_files {
            let source = context.project.src_dir.join(&file.source);
            let source = trees::of_project(&source)?;
            let known = &context.known_files;
            let content = trees::digest_of_project(&source, context.modes(), known)?;
            var_files.push((file.value.clone(), content));
        }
        let post_build = runtime.post_build.as_deref();
        let files = context.files();
        let extensions = runtime_build::members(context, runtime, &self.images, needs)?;
        Ok(VarImageRequest {
            name: runtime.name.clone(),
            manifest: needs.output(self.build)?.manifest,
            os_bundle: needs.output(self.build)?.os_bundle.map(|b| b.archive),
            told: match post_build {
                Some(_) => told(context.project, runtime, &extensions),
                None => BTreeMap::new(),
            },
            extensions,
            var_files,
            containers: match self.containers {
                Some(store) => Some(needs.output(store)?.archive),
                None => None,
            },
            filesystem: BtrfsSpec {
                has_containers: self.containers.is_some(),
                ..subvolumes::spec(context.project, runtime)
            },
            post_build: post_build.map(|p| Hook::new(&files, p)).transpose()?,
            anchor: self.key.anchor.clone(),
        })
    }
}

impl Task for VarImageTask<'_> {
    type Inputs = VarImageInputs;
    type Output = VarImageOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("runtime var {}", self.runtime.name)
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(&self.runtime.name)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        let images = self.images.iter().map(|id| AnyTaskId::from(*id));
        let packages = self.packages.into_iter().map(AnyTaskId::from);
        let compiled = self.compiled.into_iter().map(AnyTaskId::from);
        let containers = self.containers.into_iter().map(AnyTaskId::from);
        let rest = images.chain(packages).chain(compiled).chain(containers);
        let rest = rest.chain(self.scripts.needs());
        std::iter::once(self.build.into()).chain(rest).collect()
    }

    /// Where it cannot be made (as a user who is not root, say), the repositories are.
    fn failure_stops_others(&self) -> bool {
        false
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<VarImageInputs, BuildError> {
        Ok(VarImageInputs {
            var: self.request(needs)?,
            writer: self.context.tool(&images::btrfs::MKFS)?,
            packages: needs.optional_digest(self.packages)?,
            compiled: needs.optional_digest(self.compiled)?,
            scripts: self
                .scripts
                .inputs(self.context, &self.context.files(), needs)?,
        })
    }

    fn recorded_inputs(&self, before: VarImageInputs) -> Result<VarImageInputs, BuildError> {
        Ok(VarImageInputs {
            scripts: before.scripts.map(ScriptInputs::recorded),
            ..before
        })
    }

    fn run(
        &self,
        inputs: &VarImageInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<VarImageOutput, BuildError> {
        let context = self.context;
        if !context.backend.capabilities().loop_mounts {
            let diagnostics = subvolumes::without_mounts(context.project, self.runtime);
            if !diagnostics.is_empty() {
                return Err(BuildError::Project { diagnostics });
            }
        }
        let request = inputs.var.clone();
        context.run_step(&self.stage(), request, sink)
    }

    fn output_files(&self, _output: &VarImageOutput) -> Vec<PathBuf> {
        let (layout, name) = (&self.context.layout, &self.runtime.name);
        vec![layout.var_tree(name), layout.var_image(name)]
    }

    fn digest(&self, output: &VarImageOutput) -> Digest {
        output.image.sha256
    }
}

impl BuildStep for VarImageTask<'_> {
    fn artifacts(&self, output: &VarImageOutput) -> Vec<Artifact> {
        let name = &self.runtime.name;
        let path = self.context.layout.var_image(name);
        vec![Artifact::new("var", name.to_string(), path, output.image)]
    }
}
