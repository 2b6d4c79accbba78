use std::path::PathBuf;

use crate::Diagnostic;

/// Why a project or its lock file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// avocado.yaml or the lock file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// avocado.yaml is wrong. `Display` is one line for each error.
    #[error("{}", lines(diagnostics))]
    Invalid {
        /// At least one error; the warnings found until then as well. In the order of the file.
        diagnostics: Vec<Diagnostic>,
    },
    /// The lock file is not JSON.
    #[error(
        "{}:{line}:{column}: the lock file is damaged: it is not JSON; restore it from version \
         control, or remove it to lock again", path.display()
    )]
    LockSyntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The lock file is JSON of another shape.
    #[error(
        "{}: the lock file is damaged: `{at}` is not {expected}; restore it from version control, \
         or remove it to lock again", path.display()
    )]
    LockShape {
        /// The file.
        path: PathBuf,
        /// Where in the document, for example `targets.qemux86-64.rootfs`.
        at: String,
        /// What should be there.
        expected: &'static str,
    },
    /// The lock file was written by a newer program.
    #[error(
        "{} has lock version {version}, and this program knows versions up to {}; use a newer \
         avocado, or the one that wrote the file", path.display(), crate::LOCK_VERSION
    )]
    LockVersion {
        /// The file.
        path: PathBuf,
        /// The version it states.
        version: u64,
    },
    /// The lock file cannot be written.
    #[error("cannot write {}", path.display())]
    LockWrite {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// What is wrong with avocado.yaml; empty for the other errors.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Error::Invalid { diagnostics } => diagnostics,
            _ => &[],
        }
    }
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    let lines: Vec<String> = diagnostics
        .iter()
        .filter(|d| d.severity == crate::Severity::Error)
        .map(ToString::to_string)
        .collect();
    lines.join("\n")
}
