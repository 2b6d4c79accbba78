//! The kernel of a runtime: of the feed, in its rootfs, or compiled by the project.

use std::path::PathBuf;

use avocado_engine::{AnyTaskId, Needs, TaskId};
use avocado_manifest::{Digest, Name};
use avocado_project::Runtime;
use serde::{Deserialize, Serialize};

use super::compiled_kernel::CompiledKernel;
use super::install::{self, InstallOutput, PackageTree};
use super::runtime_compile::{self, RuntimeCompileOutput};
use crate::error::BuildError;
use crate::layout::Layout;
use crate::plan::Plan;
use crate::trees::Tree;

/// The kernel of a runtime.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RuntimeKernel {
    /// Which its rootfs brought.
    Feed {
        version: String,
    },
    Compiled(CompiledKernel),
}

impl RuntimeKernel {
    pub(super) fn version(&self) -> Option<&str> {
        match self {
            RuntimeKernel::Feed { version } => Some(version),
            RuntimeKernel::Compiled(kernel) => kernel.version.as_deref(),
        }
    }

    /// The name of its file, where the state has this layout.
    pub(super) fn path_in(&self, layout: &Layout, runtime: &Name) -> PathBuf {
        match self {
            RuntimeKernel::Feed { version } => layout.kernel(version).join("Image"),
            RuntimeKernel::Compiled(kernel) => layout.runtime_compiled(runtime).join(&kernel.file),
        }
    }

    /// Its file.
    pub(super) fn path(&self, layout: &Layout, runtime: &Name) -> Result<PathBuf, BuildError> {
        match self {
            // The published name is a link to the package's.
            RuntimeKernel::Feed { version } => {
                Tree::open(&layout.kernel(version))?.resolve("Image")
            }
            RuntimeKernel::Compiled(kernel) => {
                let tree = Tree::open(&layout.runtime_compiled(runtime))?;
                let path = tree.resolve(&kernel.file)?;
                kernel.image.check(&path)?;
                Ok(path)
            }
        }
    }
}

/// The steps that bring the kernel of a runtime.
#[derive(Debug)]
pub(super) struct KernelSteps {
    is_compiled: bool,
    rootfs: TaskId<InstallOutput>,
    /// What its scripts made, the kernel or not.
    pub(super) compiled: Option<TaskId<RuntimeCompileOutput>>,
}

/// What hangs on the kernel of a runtime, and on what else its scripts made.
#[derive(Debug, Serialize)]
pub(super) struct KernelInputs {
    rootfs: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    compiled: Option<Digest>,
}

impl KernelSteps {
    pub(super) fn plan(plan: &mut Plan<'_>, runtime: &Runtime) -> Result<Self, BuildError> {
        let tree = PackageTree::Rootfs(runtime.rootfs.clone());
        Ok(KernelSteps {
            is_compiled: runtime.compiles_kernel(),
            rootfs: install::plan_tree(plan, &tree)?,
            compiled: runtime_compile::plan(plan, runtime)?,
        })
    }

    pub(super) fn needs(&self) -> impl Iterator<Item = AnyTaskId> {
        let compiled = self.compiled.into_iter().map(AnyTaskId::from);
        std::iter::once(self.rootfs.into()).chain(compiled)
    }

    /// `None` where the runtime has none.
    pub(super) fn kernel(&self, needs: &Needs<'_>) -> Result<Option<RuntimeKernel>, BuildError> {
        if !self.is_compiled {
            let version = needs.output(self.rootfs)?.kernel.clone();
            return Ok(version.map(|version| RuntimeKernel::Feed { version }));
        }
        match self.compiled {
            Some(compiled) => {
                let kernel = needs.output(compiled)?.kernel.clone();
                Ok(kernel.map(RuntimeKernel::Compiled))
            }
            None => Ok(None),
        }
    }

    pub(super) fn inputs(&self, needs: &Needs<'_>) -> Result<KernelInputs, BuildError> {
        Ok(KernelInputs {
            rootfs: needs.digest(self.rootfs)?,
            compiled: needs.optional_digest(self.compiled)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_digest::FileDigest;

    #[test]
    fn each_kernel_has_its_own_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let compiled = CompiledKernel {
            version: None,
            file: "bzImage-own".into(),
            image: FileDigest::of(file.path()).unwrap(),
        };
        let feed = RuntimeKernel::Feed {
            version: "6.1".into(),
        };
        let layout = Layout::in_step(&"board".parse().unwrap());
        let runtime = "dev".parse().unwrap();
        for (kernel, end) in [
            (feed, "kernel/6.1/Image"),
            (
                RuntimeKernel::Compiled(compiled),
                "runtimes-compiled/dev/bzImage-own",
            ),
        ] {
            let path = kernel.path_in(&layout, &runtime);
            assert!(path.ends_with(end), "{}", path.display());
        }
    }
}
