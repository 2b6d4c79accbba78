//! Edits of avocado.yaml: a package more or less, and every other byte as it was.
//!
//! The text is changed, never written anew from the tree: comments, order, quotes, indentation and
//! line ends are people's own. After an edit the new text is read again, and only where it says
//! what was said before plus the edit, it counts. So what cannot be edited safely (an anchor that
//! is used elsewhere, say) is an error that says what to write by hand, whatever the reason.

mod change;
mod packages;
mod text;
mod version;

#[cfg(test)]
mod tests;

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use avocado_fs::{PendingFile, WriteOptions};

use crate::diagnostic::Diagnostic;
use crate::error::ProjectError;
use crate::model::PackageScope;
use crate::phases::read_text;
use crate::report::Report;
use crate::source::FileId;
use crate::yaml::{self, Node};
use packages::PackageList;
pub use version::state_versions;

/// An edited avocado.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageEdit {
    /// The whole new text.
    pub text: String,
    /// The packages that were added or removed.
    pub changed: Vec<String>,
    /// Those of which there was nothing to change: they are listed already.
    pub unchanged: Vec<String>,
}

/// Adds packages, in any version, behind those that `scope` has. `path` is for messages.
///
/// # Errors
/// [`ProjectError::Invalid`], with what to write by hand, where that cannot be done safely.
pub fn add_packages(
    path: &Path,
    text: &str,
    scope: &PackageScope,
    packages: &[String],
) -> Result<PackageEdit, ProjectError> {
    let mut edit = PackageEdit::of(text);
    for package in packages {
        let list = PackageList::find(Document::read(path, &edit.text)?, scope, package)?;
        edit.note(package, list.add()?);
    }
    Ok(edit)
}

/// Removes packages from those of `scope`.
///
/// # Errors
/// [`ProjectError::Invalid`] where one is not listed, or cannot be removed safely.
pub fn remove_packages(
    path: &Path,
    text: &str,
    scope: &PackageScope,
    packages: &[String],
) -> Result<PackageEdit, ProjectError> {
    let mut edit = PackageEdit::of(text);
    for package in packages {
        let list = PackageList::find(Document::read(path, &edit.text)?, scope, package)?;
        edit.note(package, Some(list.remove()?));
    }
    Ok(edit)
}

impl PackageEdit {
    /// Puts the new text into the file at `path`. Where that does not say `old` any more, `again`
    /// makes the edit in what it says now; the result is the edit that was saved. Its readers see
    /// the old text or the new one, whenever this is interrupted; a link stays one, and mode and
    /// owner are those of the old file.
    ///
    /// # Errors
    /// [`ProjectError::Changed`] where the edit cannot be made again, [`ProjectError::Owner`], and
    /// when the file cannot be read or written; the old file is there then.
    pub fn save(
        &self,
        path: &Path,
        old: &str,
        again: impl Fn(&str) -> Result<PackageEdit, ProjectError>,
    ) -> Result<PackageEdit, ProjectError> {
        let mut old = old.to_owned();
        let mut edit = self.clone();
        loop {
            let now = read_text(path)?;
            if now == old {
                break;
            }
            edit = again(&now).map_err(|why| ProjectError::Changed {
                path: path.to_owned(),
                why: Box::new(why),
            })?;
            old = now;
        }
        if edit.text != old {
            let (mut new, file) = successor(path)?;
            let written = new.write_all(edit.text.as_bytes());
            written.map_err(|source| write_error(&file, source))?;
            let committed = new.commit();
            committed.map_err(|error| write_error(path, error.source))?;
        }
        Ok(edit)
    }

    fn of(text: &str) -> Self {
        PackageEdit {
            text: text.to_owned(),
            changed: Vec::new(),
            unchanged: Vec::new(),
        }
    }

    fn note(&mut self, package: &str, new_text: Option<String>) {
        match new_text {
            Some(text) => {
                self.text = text;
                self.changed.push(package.to_owned());
            }
            None => self.unchanged.push(package.to_owned()),
        }
    }
}

/// That this user can save an edit of the file at `path`, which is better known before much is done
/// for the sake of one.
///
/// # Errors
/// [`ProjectError::Owner`] where the new file could not belong to whom the old one does, and when
/// none can be written.
pub fn check_editable(path: &Path) -> Result<(), ProjectError> {
    // It is removed again.
    successor(path).map(drop)
}

/// An empty file with mode and owner of the file at `path`, which it can take the place of; and where
/// that really is.
fn successor(path: &Path) -> Result<(PendingFile, PathBuf), ProjectError> {
    let failed = |source| write_error(path, source);
    let file = std::fs::canonicalize(path).map_err(failed)?;
    let before = std::fs::metadata(&file).map_err(failed)?;
    let new = with_mode_of(&before).create(&file);
    let new = new.map_err(|error| failed(error.source))?;
    match give_to_owner(new.file(), &before) {
        Ok(()) => Ok((new, file)),
        Err(source) if source.kind() == ErrorKind::PermissionDenied => Err(ProjectError::Owner {
            path: path.to_owned(),
        }),
        Err(source) => Err(failed(source)),
    }
}

fn write_error(path: &Path, source: std::io::Error) -> ProjectError {
    ProjectError::Write {
        path: path.to_owned(),
        source,
    }
}

#[cfg(unix)]
fn with_mode_of(before: &Metadata) -> WriteOptions {
    use std::os::unix::fs::MetadataExt as _;
    WriteOptions::new().mode(before.mode() & 0o7777)
}

#[cfg(not(unix))]
fn with_mode_of(_before: &Metadata) -> WriteOptions {
    WriteOptions::new()
}

/// For root, who edits what is a user's.
#[cfg(unix)]
fn give_to_owner(new: &File, before: &Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let now = new.metadata()?;
    if (now.uid(), now.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(new, Some(before.uid()), Some(before.gid()))
}

#[cfg(not(unix))]
fn give_to_owner(_new: &File, _before: &Metadata) -> std::io::Result<()> {
    Ok(())
}

/// A text and its tree.
struct Document<'t> {
    text: &'t str,
    root: Node,
    report: Report,
}

impl<'t> Document<'t> {
    fn read(path: &Path, text: &'t str) -> Result<Self, ProjectError> {
        let mut report = Report::new(path, text);
        match yaml::parse(FileId::MAIN, &mut report) {
            Some(root) => Ok(Document { text, root, report }),
            None => Err(ProjectError::invalid(report)),
        }
    }

    /// The tree of another text of the same file, if it is one.
    fn reread(&self, text: &str) -> Option<Node> {
        let path = self.report.file(FileId::MAIN).path.clone();
        Some(Document::read(&path, text).ok()?.root)
    }
}

impl From<Diagnostic> for ProjectError {
    fn from(diagnostic: Diagnostic) -> Self {
        ProjectError::Invalid {
            diagnostics: vec![diagnostic],
        }
    }
}
