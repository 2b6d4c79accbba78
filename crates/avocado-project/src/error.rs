use std::path::PathBuf;

use crate::diagnostic::{Diagnostic, Severity};
use crate::report::Report;

/// Why a project cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// avocado.yaml cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// avocado.yaml cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// avocado.yaml was edited while it was about to be, and says nothing now that the edit can be made
    /// in.
    #[error("{} was changed meanwhile, and is left as it is", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is in the way of the edit.
        #[source]
        why: Box<ProjectError>,
    },
    /// A new avocado.yaml would belong to another user or group than the old one, which its owner may
    /// not be able to read or write then.
    #[error("{} belongs to another user or group, and an edit would change that", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
    },
    /// avocado.yaml is wrong for another target than the one that is meant.
    #[error("the project is wrong for the target {target}")]
    ForTarget {
        /// The target.
        target: String,
        /// What is wrong.
        #[source]
        why: Box<ProjectError>,
    },
    /// avocado.yaml is wrong. `Display` is one line for each error.
    #[error("{}", lines(diagnostics))]
    Invalid {
        /// At least one error; the warnings found until then as well. In the order of the file.
        diagnostics: Vec<Diagnostic>,
    },
}

impl ProjectError {
    /// From a report that has errors.
    pub(crate) fn invalid(report: Report) -> Self {
        ProjectError::Invalid {
            diagnostics: report.finish(),
        }
    }

    /// What is wrong with avocado.yaml; empty for the other errors.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            ProjectError::Invalid { diagnostics } => diagnostics,
            ProjectError::ForTarget { why, .. } => why.diagnostics(),
            _ => &[],
        }
    }
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    let lines: Vec<String> = diagnostics
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .map(ToString::to_string)
        .collect();
    lines.join("\n")
}
