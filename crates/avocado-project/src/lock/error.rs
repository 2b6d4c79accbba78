use std::path::{Path, PathBuf};

use serde_json::error::Category;

use super::document::LOCK_VERSION;

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockFileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not JSON.
    #[error(
        "{}:{line}:{column}: the lock file is damaged: it is not JSON; restore it from version \
         control, or remove it to lock again", path.display()
    )]
    Syntax {
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
    /// Two versions of it were merged, and nobody has chosen.
    #[error(
        "{}:{line}: the lock file has the marks of a merge that was not finished; take one side whole \
         (`git checkout --ours` or `--theirs`, with the file's name) and run `avocado install`, which \
         adds what that side does not have", path.display()
    )]
    MergeConflict {
        /// The file.
        path: PathBuf,
        /// The line of the first mark, from 1.
        line: usize,
    },
    /// It would have to change, and was not to.
    #[error("{} would have to change: {what}", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// What would change first, and how much more.
        what: String,
    },
    /// It is JSON of another shape.
    #[error(
        "{}: the lock file is damaged at `{at}`; restore it from version control, or remove it to \
         lock again", path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// Where in the document, for example `targets.qemux86-64.rootfs`.
        at: String,
        /// What is there, and what should be.
        #[source]
        source: serde_json::Error,
    },
    /// It does not say which version it has.
    #[error(
        "{}: the lock file is damaged: `version` is not a version number; restore it from version \
         control, or remove it to lock again", path.display()
    )]
    NoVersion {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer program.
    #[error(
        "{} has lock version {version}, and this program knows versions up to {LOCK_VERSION}; use \
         a newer avocado, or the one that wrote the file", path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it states.
        version: u64,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl LockFileError {
    /// `at` is the path into the document; empty or `.` for all of it.
    pub(super) fn damaged(path: &Path, at: String, source: serde_json::Error) -> Self {
        let path = path.to_owned();
        match source.classify() {
            Category::Data => LockFileError::Shape {
                path,
                at: match at.as_str() {
                    "" | "." => "the document".to_owned(),
                    _ => at,
                },
                source,
            },
            Category::Io | Category::Syntax | Category::Eof => LockFileError::Syntax {
                path,
                line: source.line(),
                column: source.column(),
                source,
            },
        }
    }
}
