use std::path::{Path, PathBuf};

use serde_json::error::Category;

use super::document::LOCK_VERSION;
use super::json_text::{self, JsonPlace};

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
        "{}:{line}:1: the lock file has the marks of a merge that was not finished; take one side whole \
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
        "{}:{line}:{column}: the lock file is damaged at `{at}`; restore it from version control, or \
         remove it to lock again", path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// Where in the document, for example `targets.qemux86-64.rootfs`.
        at: String,
        /// What is there, and what should be.
        #[source]
        source: LockShapeError,
    },
    /// An object has a key twice.
    #[error(
        "{}:{line}:{column}: the lock file is damaged: `{key}` is there twice, as a merge by hand may \
         leave it; remove one of both, or restore the file from version control", path.display()
    )]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// The key.
        key: String,
    },
    /// It does not say which version it has.
    #[error(
        "{}:{line}:{column}: the lock file is damaged: `version` is not a version number; restore it \
         from version control, or remove it to lock again", path.display()
    )]
    NoVersion {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// It was written by a newer program.
    #[error(
        "{}:{line}:{column}: the file has lock version {version}, and this program knows versions up to {LOCK_VERSION}; use \
         a newer avocado, or the one that wrote the file", path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
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

/// What is there in a lock file, and what should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LockShapeError(String);

impl LockFileError {
    /// `keys` lead to what is wrong in the document that was read, which is that of `bytes` or one that
    /// was brought into the present shape.
    pub(super) fn damaged(
        path: &Path,
        bytes: &[u8],
        keys: &[String],
        source: serde_json::Error,
    ) -> Self {
        let path = path.to_owned();
        match source.classify() {
            Category::Data => {
                let JsonPlace { line, column } = json_text::place_of(bytes, keys);
                // The place in what was read, which may be another document.
                let read_at = format!(" at line {} column {}", source.line(), source.column());
                let why = source.to_string();
                let why = why.strip_suffix(&read_at).unwrap_or(&why).to_owned();
                LockFileError::Shape {
                    path,
                    line,
                    column,
                    at: match keys {
                        [] => "the document".to_owned(),
                        keys => keys.join("."),
                    },
                    source: LockShapeError(why),
                }
            }
            Category::Eof => {
                let JsonPlace { line, column } = json_text::end_of(bytes);
                LockFileError::Syntax {
                    path,
                    line,
                    column,
                    source,
                }
            }
            Category::Io | Category::Syntax => LockFileError::Syntax {
                path,
                line: source.line(),
                column: source.column(),
                source,
            },
        }
    }
}
