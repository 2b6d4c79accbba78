//! What the project's own scripts of a step need, and what they can read.
//!
//! Nobody knows what a script reads. So whatever it can read of the project is an input of the step
//! that runs it, and the step runs again when any of that changes; what it makes of it ends the
//! ripple where that is the same.

use std::collections::BTreeMap;

use avocado_engine::{AnyTaskId, Needs, TaskId};
use avocado_manifest::Digest;
use avocado_project::ProjectPackage;
use serde::Serialize;

use super::compile::{self, CompileOutput};
use super::install::{self, InstallOutput};
use crate::build_context::{BuildContext, FilesOfProject};
use crate::error::BuildError;
use crate::plan::Plan;
use crate::sources::SourcesDigest;

/// The steps that have to be done before the scripts of a step run.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    /// The install of the SDK, whose tools they may use. `None`: the step runs no script.
    sdk: Option<TaskId<InstallOutput>>,
    /// What compiles the packages that they install.
    sections: Vec<TaskId<CompileOutput>>,
}

/// What the scripts of a step consume, beside themselves.
#[derive(Debug, Serialize)]
pub(super) struct ScriptInputs {
    sdk: Digest,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    compiled: Vec<Digest>,
    sources: Vec<SourcesDigest>,
    environment: BTreeMap<&'static str, String>,
}

impl Scripts {
    /// Adds what the scripts need that install these packages, and the hook, if there is one.
    pub(super) fn plan(
        plan: &mut Plan<'_>,
        packages: &[ProjectPackage],
        has_hook: bool,
    ) -> Result<Self, BuildError> {
        let sections = compile::plan_packages(plan, packages)?;
        let has_script = has_hook || packages.iter().any(|package| package.install().is_some());
        let sdk = if has_script {
            Some(install::plan_sdk(plan)?)
        } else {
            None
        };
        Ok(Scripts { sdk, sections })
    }

    /// Adds what compiles one more of their packages.
    pub(super) fn add_section(
        &mut self,
        plan: &mut Plan<'_>,
        section: &str,
    ) -> Result<(), BuildError> {
        self.sections.push(compile::plan(plan, section)?);
        Ok(())
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        self.sdk.is_some() || !self.sections.is_empty()
    }

    pub(super) fn needs(&self) -> impl Iterator<Item = AnyTaskId> {
        let sections = self.sections.iter().map(|id| AnyTaskId::from(*id));
        self.sdk.into_iter().map(AnyTaskId::from).chain(sections)
    }

    /// `None` where no script runs.
    pub(super) fn inputs(
        &self,
        context: &BuildContext<'_>,
        files: &FilesOfProject,
        needs: &Needs<'_>,
    ) -> Result<Option<ScriptInputs>, BuildError> {
        let Some(sdk) = needs.optional_digest(self.sdk)? else {
            return Ok(None);
        };
        let mut compiled = Vec::new();
        for section in &self.sections {
            compiled.push(needs.digest(*section)?);
        }
        Ok(Some(ScriptInputs {
            sdk,
            compiled,
            sources: context.sources_of(files),
            environment: context.told_to_scripts(),
        }))
    }
}

impl ScriptInputs {
    /// What to record once the scripts ran.
    pub(super) fn recorded(self) -> Self {
        let sources = self.sources.into_iter();
        ScriptInputs {
            sources: sources.map(SourcesDigest::recorded).collect(),
            ..self
        }
    }
}
