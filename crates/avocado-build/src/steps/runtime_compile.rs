//! What the project compiles for a runtime: its kernel, and packages of its own. Scripts install
//! both into the directory of the runtime, beside the packages of the feed.

use std::path::PathBuf;

use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::{Digest, Name};
use avocado_project::{KernelOrigin, Placed, Runtime};
use serde::{Deserialize, Serialize};

use super::compiled_kernel::{self, CompiledKernel};
use super::compiled_package::CompiledPackage;
use super::hook::Hook;
use super::install::{self, InstallOutput, PackageTree, Uninstall};
use super::scripts::{ScriptInputs, Scripts};
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::needed;
use crate::plan::{BuildStep, Plan};
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::{self, CopyModes, Tree};

/// What is to be installed, as it travels to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RuntimeCompileRequest {
    name: Name,
    /// Whether there are packages of the feed, which the scripts may look at.
    packages: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kernel: Option<CompiledPackage>,
    compiled: Vec<CompiledPackage>,
}

/// What was installed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RuntimeCompileOutput {
    digest: Digest,
    pub(super) kernel: Option<CompiledKernel>,
}

/// Adds what the project compiles for a runtime, if it does, and what that needs.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    runtime: &Runtime,
) -> Result<Option<TaskId<RuntimeCompileOutput>>, BuildError> {
    let context = plan.context;
    let runtime = context.runtime(&runtime.name)?;
    needed::for_runtime_compile(context.project, runtime)?;
    let kernel = match runtime.kernel.as_ref().map(|kernel| &kernel.origin) {
        Some(KernelOrigin::Compiled { section, install }) => Some((section, install)),
        _ => None,
    };
    if kernel.is_none() && runtime.project_packages.is_empty() {
        plan.uninstall(Uninstall::Compiled(runtime.name.clone()));
        return Ok(None);
    }
    let id = plan.once(&stamp_key(&runtime.name), |plan| {
        let mut scripts = Scripts::plan(plan, &runtime.project_packages, kernel.is_some())?;
        if let Some((section, _)) = kernel {
            scripts.add_section(plan, section)?;
        }
        Ok(RuntimeCompileTask {
            context,
            runtime,
            kernel,
            packages: install::plan_runtime(plan, runtime)?,
            scripts,
        })
    })?;
    Ok(Some(id))
}

fn stamp_key(runtime: &Name) -> StampKey {
    StampKey {
        component: "runtime",
        directory: "runtime",
        name: Some(runtime.to_string()),
        command: "compile",
    }
}

/// The parent's side.
struct RuntimeCompileTask<'a> {
    context: &'a BuildContext<'a>,
    runtime: &'a Runtime,
    /// The section that compiles the kernel, and the script that installs it.
    kernel: Option<(&'a Placed<String>, &'a Placed<PathBuf>)>,
    packages: Option<TaskId<InstallOutput>>,
    scripts: Scripts,
}

/// What is consumed.
#[derive(Debug, Serialize)]
struct RuntimeCompileInputs {
    compile: RuntimeCompileRequest,
    packages: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scripts: Option<ScriptInputs>,
}

impl RuntimeCompileTask<'_> {
    fn request(&self) -> Result<RuntimeCompileRequest, BuildError> {
        let files = self.context.files();
        let kernel = self.kernel.map(|(section, install)| {
            // It may be stated in another project.
            let hook = Hook::new(&self.context.files_at(&install.place.file), install)?;
            Ok::<_, BuildError>(CompiledPackage::kernel(section, hook))
        });
        Ok(RuntimeCompileRequest {
            name: self.runtime.name.clone(),
            packages: self.packages.is_some(),
            kernel: kernel.transpose()?,
            compiled: CompiledPackage::all(&files, &self.runtime.project_packages)?,
        })
    }
}

impl Task for RuntimeCompileTask<'_> {
    type Inputs = RuntimeCompileInputs;
    type Output = RuntimeCompileOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("runtime compile {}", self.runtime.name)
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(&self.runtime.name)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        let packages = self.packages.into_iter().map(AnyTaskId::from);
        packages.chain(self.scripts.needs()).collect()
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<RuntimeCompileInputs, BuildError> {
        let context = self.context;
        Ok(RuntimeCompileInputs {
            compile: self.request()?,
            packages: needs.optional_digest(self.packages)?,
            scripts: self.scripts.inputs(context, &context.files(), needs)?,
        })
    }

    fn recorded_inputs(
        &self,
        before: RuntimeCompileInputs,
    ) -> Result<RuntimeCompileInputs, BuildError> {
        Ok(RuntimeCompileInputs {
            scripts: before.scripts.map(ScriptInputs::recorded),
            ..before
        })
    }

    fn run(
        &self,
        inputs: &RuntimeCompileInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<RuntimeCompileOutput, BuildError> {
        let request = inputs.compile.clone();
        self.context.run_step(&self.stage(), request, sink)
    }

    fn output_files(&self, _output: &RuntimeCompileOutput) -> Vec<PathBuf> {
        let (layout, name) = (&self.context.layout, &self.runtime.name);
        let list = layout.runtime(name).join(install::COMPILED_LIST);
        vec![layout.runtime_compiled(name), list]
    }

    fn digest(&self, output: &RuntimeCompileOutput) -> Digest {
        output.digest
    }
}

impl BuildStep for RuntimeCompileTask<'_> {}

impl StepRequest for RuntimeCompileRequest {
    const KIND: &'static str = "runtime_compile";
    type Result = RuntimeCompileOutput;

    fn runs_hook(&self) -> bool {
        true
    }

    fn work(self, context: &StepContext<'_>) -> Result<RuntimeCompileOutput, BuildError> {
        let layout = &context.layout;
        let place = layout.runtime_compiled(&self.name);
        let new = trees::unfinished(&place);
        let root = Tree::fresh(&new)?;
        if self.packages {
            let packages = PackageTree::Runtime(self.name.clone()).root(layout);
            install::copy_published(&Tree::open(&packages)?, &root)?;
        }
        let step = format!("runtime compile {}", self.name);
        let variables = [
            ("AVOCADO_RUNTIME_BUILD_DIR", new.as_os_str()),
            ("AVOCADO_RUNTIME", self.name.as_str().as_ref()),
            ("AVOCADO_RUNTIME_NAME", self.name.as_str().as_ref()),
        ];
        let mut kernel = None;
        if let Some(package) = &self.kernel {
            package.install(context, &step, &variables)?;
            let section = package.section().unwrap_or_default();
            let build = layout.compile(section);
            let script = package.script().path().display().to_string();
            kernel = Some(compiled_kernel::find(&Tree::open(&new)?, &script, &build)?);
        }
        for package in &self.compiled {
            package.install(context, &step, &variables)?;
        }
        let digest = trees::digest(&new, CopyModes::Keep)?;
        trees::replace(&new, &place)?;
        install::publish_compiled(&Tree::open(&place)?, &layout.runtime(&self.name))?;
        Ok(RuntimeCompileOutput { digest, kernel })
    }
}
