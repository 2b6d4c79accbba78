//! Packages of a tree that the project compiles itself.

use std::ffi::OsStr;

use avocado_project::ProjectPackage;
use serde::{Deserialize, Serialize};

use super::hook::Hook;
use crate::build_context::{BuildContext, FilesOfProject};
use crate::error::BuildError;
use crate::step_context::StepContext;

/// A package of a tree that the project compiles: the script that installs it there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CompiledPackage {
    name: String,
    section: Option<String>,
    install: Hook,
}

impl CompiledPackage {
    /// Those with a script, in the order of the file.
    pub(super) fn all(
        files: &FilesOfProject,
        packages: &[ProjectPackage],
    ) -> Result<Vec<Self>, BuildError> {
        let mut all = Vec::new();
        for package in packages {
            let Some(install) = package.install() else {
                continue;
            };
            all.push(CompiledPackage {
                name: package.name.value.clone(),
                section: package.section().map(ToOwned::to_owned),
                install: Hook::new(files, install)?,
            });
        }
        Ok(all)
    }

    /// The same for a section that may come from several files: each script is looked for beside
    /// the file that names it.
    pub(super) fn all_where_written(
        context: &BuildContext<'_>,
        packages: &[ProjectPackage],
    ) -> Result<Vec<Self>, BuildError> {
        let mut all = Vec::new();
        for package in packages {
            if let Some(install) = package.install() {
                let files = context.files_at(&install.place.file);
                all.extend(Self::all(&files, std::slice::from_ref(package))?);
            }
        }
        Ok(all)
    }

    /// The kernel of a runtime, which is one package more.
    pub(super) fn kernel(section: &str, install: Hook) -> Self {
        CompiledPackage {
            name: "kernel".to_owned(),
            section: Some(section.to_owned()),
            install,
        }
    }

    /// The section of `sdk.compile` that made it.
    pub(super) fn section(&self) -> Option<&str> {
        self.section.as_deref()
    }

    /// The script that installs it, for messages.
    pub(super) fn script(&self) -> &Hook {
        &self.install
    }

    /// Runs the script, with `AVOCADO_BUILD_DIR` and what else it is told. What it says is kept
    /// under the name of the `step` and of the package.
    pub(super) fn install(
        &self,
        context: &StepContext<'_>,
        step: &str,
        variables: &[(&str, &OsStr)],
    ) -> Result<(), BuildError> {
        let directory = self.section().map(|s| context.layout.compile(s));
        let mut variables = variables.to_vec();
        if let Some(directory) = &directory {
            variables.push(("AVOCADO_BUILD_DIR", directory.as_os_str()));
        }
        let log = format!("{step} {}", self.name);
        self.install.run(context, &log, &variables)
    }
}
