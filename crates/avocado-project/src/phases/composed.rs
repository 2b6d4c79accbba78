use crate::diagnostic::Diagnostic;
use crate::error::ProjectError;
use crate::model::Project;
use crate::report::Report;
use crate::resolve::{self, Composition};

use super::options::LoadOptions;
use super::source::ExtensionSource;

/// The third phase: everything that the project is made of is in one tree.
pub struct ComposedProject {
    pub(super) composition: Composition,
    pub(super) sources: Vec<ExtensionSource>,
    pub(super) report: Report,
    /// It has no more of the project than fetching needs.
    pub(super) is_for_fetching: bool,
}

/// A project that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// What a person should know about it, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

impl ComposedProject {
    /// The last phase: every reference is followed, everything is checked.
    ///
    /// # Errors
    /// [`ProjectError::Invalid`] with what is wrong, and what was wrong in the phases before.
    pub fn resolve(self, options: &LoadOptions<'_>) -> Result<Loaded, ProjectError> {
        let mut report = self.report;
        let mut project = resolve::project(self.composition, options.env, &mut report);
        let is_here = |source: &ExtensionSource| source.fetched_to.is_some();
        project.is_complete = !self.is_for_fetching && self.sources.iter().all(is_here);
        project.sources = self.sources;
        if report.has_errors() {
            return Err(ProjectError::invalid(report));
        }
        Ok(Loaded {
            project,
            warnings: report.finish(),
        })
    }
}
