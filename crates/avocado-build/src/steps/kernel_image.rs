//! The kernel of a runtime, for those who want the file: nothing is made but its digest.

use std::path::PathBuf;

use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::{Digest, Name};
use avocado_project::Runtime;
use serde::{Deserialize, Serialize};

use super::runtime_kernel::{KernelInputs, KernelSteps, RuntimeKernel};
use crate::artifact::Artifact;
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::needed;
use crate::plan::{BuildStep, Plan};

/// The kernel that a runtime has.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KernelImageOutput {
    /// Below the target's part of the state, which may be moved.
    file: PathBuf,
    version: Option<String>,
    image: FileDigest,
}

/// Adds the kernel of a runtime, and what it needs.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    runtime: &Name,
) -> Result<TaskId<KernelImageOutput>, BuildError> {
    plan.once(&stamp_key(runtime), |plan| {
        let context = plan.context;
        let runtime = context.runtime(runtime)?;
        needed::for_kernel_image(context.project, runtime)?;
        Ok(KernelImageTask {
            context,
            runtime,
            kernel: KernelSteps::plan(plan, runtime)?,
        })
    })
}

fn stamp_key(runtime: &Name) -> StampKey {
    StampKey {
        component: "runtime",
        directory: "runtime",
        name: Some(runtime.to_string()),
        command: "kernel-image",
    }
}

struct KernelImageTask<'a> {
    context: &'a BuildContext<'a>,
    runtime: &'a Runtime,
    kernel: KernelSteps,
}

/// What it hangs on.
#[derive(Debug, Serialize)]
struct KernelImageInputs {
    kernel: Option<RuntimeKernel>,
    steps: KernelInputs,
}

impl KernelImageTask<'_> {
    fn path(&self, output: &KernelImageOutput) -> PathBuf {
        self.context.layout.prefix().join(&output.file)
    }
}

impl Task for KernelImageTask<'_> {
    type Inputs = KernelImageInputs;
    type Output = KernelImageOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("kernel image {}", self.runtime.name)
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(&self.runtime.name)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        self.kernel.needs().collect()
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<KernelImageInputs, BuildError> {
        Ok(KernelImageInputs {
            kernel: self.kernel.kernel(needs)?,
            steps: self.kernel.inputs(needs)?,
        })
    }

    fn run(
        &self,
        inputs: &KernelImageInputs,
        _needs: &Needs<'_>,
        _sink: &dyn Sink,
    ) -> Result<KernelImageOutput, BuildError> {
        let Some(kernel) = &inputs.kernel else {
            return Err(BuildError::Invalid(format!(
                "the runtime `{}` has no kernel: its rootfs `{}` installs none; add \
                 `kernel-image: \"*\"` to its packages, or `kernel:` to the runtime",
                self.runtime.name, self.runtime.rootfs
            )));
        };
        let layout = &self.context.layout;
        let path = kernel.path(layout, &self.runtime.name)?;
        let file = path.strip_prefix(layout.prefix()).unwrap_or(&path);
        Ok(KernelImageOutput {
            image: FileDigest::of(&path)?,
            version: kernel.version().map(ToOwned::to_owned),
            file: file.to_owned(),
        })
    }

    /// Nothing is made here.
    fn output_files(&self, _output: &KernelImageOutput) -> Vec<PathBuf> {
        Vec::new()
    }

    fn shared_files(&self, output: &KernelImageOutput) -> Vec<PathBuf> {
        vec![self.path(output)]
    }

    fn digest(&self, output: &KernelImageOutput) -> Digest {
        output.image.sha256
    }
}

impl BuildStep for KernelImageTask<'_> {
    fn artifacts(&self, output: &KernelImageOutput) -> Vec<Artifact> {
        let name = match &output.version {
            Some(version) => format!("{} {version}", self.runtime.name),
            None => self.runtime.name.to_string(),
        };
        let path = self.path(output);
        vec![Artifact::new("kernel", name, path, output.image)]
    }
}
