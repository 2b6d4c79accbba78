//! Edits of avocado.yaml: a package more or less, and every other byte as it was.
//!
//! The text is changed, never written anew from the tree: comments, order, quotes, indentation and
//! line ends are people's own. After an edit the new text is read again, and only where it says
//! what was said before plus the edit, it counts. So what cannot be edited safely (an anchor that
//! is used elsewhere, say) is an error that says what to write by hand, whatever the reason.

mod change;
mod packages;
mod text;

#[cfg(test)]
mod tests;

use std::path::Path;

use avocado_fs::WriteOptions;
use avocado_manifest::Name;

use crate::diagnostic::Diagnostic;
use crate::error::ProjectError;
use crate::report::Report;
use crate::source::FileId;
use crate::yaml::{self, Node};
use packages::PackageList;

/// Whose packages an edit is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageScope {
    /// Those of an extension.
    Extension(Name),
    /// Those of a runtime's own tree.
    Runtime(Name),
    /// The tools.
    Sdk,
    /// Those of the default root file system.
    Rootfs,
    /// Those of the default initramfs.
    Initramfs,
}

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
    /// Puts the new text into the file at `path`, as long as that still says `old`. Its readers see
    /// the old text or the new one, whenever this is interrupted; a link stays one, and mode and
    /// owner are those of the old file.
    ///
    /// # Errors
    /// [`ProjectError::Changed`], and when it cannot be read or written; the old file is there then.
    pub fn save(&self, path: &Path, old: &str) -> Result<(), ProjectError> {
        let failed = |source| ProjectError::Write {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::canonicalize(path).map_err(failed)?;
        if std::fs::read(&file).map_err(failed)? != old.as_bytes() {
            return Err(ProjectError::Changed {
                path: path.to_owned(),
            });
        }
        if self.text == old {
            return Ok(());
        }
        let before = std::fs::metadata(&file).map_err(failed)?;
        let write = with_mode_of(&before).write(&file, self.text.as_bytes());
        write.map_err(|error| failed(error.source))?;
        keep_owner(&file, &before).map_err(failed)
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

#[cfg(unix)]
fn with_mode_of(before: &std::fs::Metadata) -> WriteOptions {
    use std::os::unix::fs::MetadataExt as _;
    WriteOptions::new().mode(before.mode() & 0o7777)
}

#[cfg(not(unix))]
fn with_mode_of(_before: &std::fs::Metadata) -> WriteOptions {
    WriteOptions::new()
}

/// For root, who edits what is a user's.
#[cfg(unix)]
fn keep_owner(file: &Path, before: &std::fs::Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let now = std::fs::metadata(file)?;
    if (now.uid(), now.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    std::os::unix::fs::chown(file, Some(before.uid()), Some(before.gid()))
}

#[cfg(not(unix))]
fn keep_owner(_file: &Path, _before: &std::fs::Metadata) -> std::io::Result<()> {
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
