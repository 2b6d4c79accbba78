//! References in files of a project that are no avocado.yaml.

use std::fmt;
use std::path::Path;

use super::{InterpolationContext, Interpolator};
use crate::diagnostic::{Diagnostic, Severity};
use crate::report::Report;
use crate::source::{FileId, Span};
use crate::yaml::Node;

/// What references in the files of a project refer to: avocado.yaml, as it is for one target.
#[derive(Clone)]
pub struct Templates {
    root: Node,
    target: String,
}

/// A text with its references filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilledText {
    /// The text.
    pub text: String,
    /// What a person should know about it.
    pub warnings: Vec<Diagnostic>,
}

impl Templates {
    pub(crate) fn new(root: Node, target: String) -> Self {
        Templates { root, target }
    }

    /// Fills in the references of the text of a file. What is no reference stays as it is, and so does
    /// what only a build finds out.
    ///
    /// # Errors
    /// What of it leads nowhere, with its place in the file.
    pub fn fill(
        &self,
        path: &Path,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<FilledText, Vec<Diagnostic>> {
        let context = InterpolationContext {
            env,
            target: Some(&self.target),
        };
        let mut report = Report::new(path, text);
        let mut interpolator = Interpolator::new(&self.root, &context, &mut report);
        let whole = Span {
            file: FileId::MAIN,
            line: 1,
            column: 1,
            start: 0,
            end: text.len(),
        };
        let filled = interpolator.written(text, whole);
        let found = report.finish();
        match filled {
            Ok(text) if !found.iter().any(|d| d.severity == Severity::Error) => Ok(FilledText {
                text,
                warnings: found,
            }),
            _ => Err(found),
        }
    }
}

/// What it holds may be a secret.
impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates").finish_non_exhaustive()
    }
}
