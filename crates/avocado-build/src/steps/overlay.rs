//! Files of the project that are laid over a tree.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink};
use avocado_manifest::Digest;
use avocado_project::{Diagnostic, HiddenNames, PathPattern, PreprocessedFiles};
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::hook::{is_source_mount, source_mount};
use crate::build_context::{BuildContext, FilesOfProject};
use crate::error::{At as _, BuildError, TreeFault};
use crate::step_context::StepContext;
use crate::trees::{self, CopiedFiles, Tree};

/// An overlay of the project, with the digest of its content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OverlayFiles {
    /// What a step sees its project as.
    #[serde(default = "source_mount", skip_serializing_if = "is_source_mount")]
    project: PathBuf,
    dir: PathBuf,
    content: Digest,
    /// Of the files in which references are filled in, as they are then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filled: Option<Digest>,
    /// These files, on their way to the step: no input, because they may hold what is secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    texts: Vec<FilledFile>,
}

impl OverlayFiles {
    /// Describes an overlay, whose directory is below `files`.
    pub(crate) fn new(
        context: &BuildContext<'_>,
        files: &FilesOfProject,
        overlay: &avocado_project::Overlay,
    ) -> Result<Self, BuildError> {
        let dir = files.on_host.join(&overlay.dir);
        if !dir.is_dir() {
            return Err(BuildError::Invalid(format!(
                "the overlay directory {} does not exist",
                dir.display()
            )));
        }
        let filled = match &overlay.preprocess {
            None => None,
            Some(which) => {
                let filled = filled_files(context, &files.find(&overlay.dir)?, which)?;
                Some(digest_of_filled(&filled.files)?)
            }
        };
        Ok(OverlayFiles {
            project: files.in_step.clone(),
            dir: overlay.dir.clone(),
            content: trees::digest_of_project(
                &files.find(&overlay.dir)?,
                context.modes(),
                &context.known_files,
            )?,
            filled,
            texts: Vec::new(),
        })
    }

    /// Puts in the files in which references are filled in, for the way to the step, and tells what
    /// there is to tell of them.
    pub(crate) fn fill(
        &mut self,
        context: &BuildContext<'_>,
        files: &FilesOfProject,
        overlay: &avocado_project::Overlay,
        sink: &dyn Sink,
    ) -> Result<(), BuildError> {
        if let Some(which) = &overlay.preprocess {
            let filled = filled_files(context, &files.find(&overlay.dir)?, which)?;
            for warning in filled.warnings {
                sink.emit(Event::warning(warning.to_string()));
            }
            self.texts = filled.files;
        }
        Ok(())
    }

    /// Lays it over a tree. Returns what it was then: it may have changed since it was described. The
    /// contents of these files are known in `copied`, where that is wanted.
    pub(crate) fn apply(
        &self,
        context: &StepContext<'_>,
        root: &Tree,
        copied: Option<&mut CopiedFiles>,
    ) -> Result<CopiedOverlay, BuildError> {
        let from = trees::of_project(&self.project.join(&self.dir))?;
        let content = trees::copy_of_project(&from, root, context.modes, copied)?;
        for FilledFile { path, text } in &self.texts {
            let copied = root.file(path)?.map(|file| file.metadata());
            let mode = copied.transpose().at("look at", path)?;
            let mode = mode.map_or(0o644, |metadata| metadata.mode() & 0o7777);
            root.write(path, text, mode)?;
        }
        // Where nothing is to be filled in, there is nothing that it could differ from.
        let filled = self.filled.map(|_| digest_of_filled(&self.texts));
        Ok(CopiedOverlay {
            content,
            filled: filled.transpose()?,
        })
    }

    /// Whether what was copied is what was described. What is not known is not.
    pub(crate) fn is(&self, copied: Option<CopiedOverlay>) -> bool {
        copied.is_some_and(|copied| {
            copied.content == Some(self.content) && copied.filled == self.filled
        })
    }

    /// Tells what of it no clone of the project has.
    pub(crate) fn tell_of_losses(&self, context: &StepContext<'_>) -> Result<(), BuildError> {
        let from = trees::of_project(&self.project.join(&self.dir))?;
        let what = format!("the overlay `{}`", self.dir.display());
        for told in trees::lost_in_clones(&what, &from, context.modes)? {
            context.sink.emit(Event::warning(told));
        }
        Ok(())
    }

    /// Says that it was this overlay which put into a tree what makes that useless.
    pub(crate) fn blamed_for(&self, error: BuildError) -> BuildError {
        match error {
            BuildError::Tree { tree, path, fault }
                if self
                    .project
                    .join(&self.dir)
                    .join(&path)
                    .symlink_metadata()
                    .is_ok() =>
            {
                let what = format!(
                    "{} and comes from the overlay `{}`",
                    fault.what,
                    self.dir.display()
                );
                let fault = TreeFault { what };
                BuildError::Tree { tree, path, fault }
            }
            other => other,
        }
    }
}

/// What an overlay was when it was laid over a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CopiedOverlay {
    /// Of its files as they are in the project; none where they were copied as no project's files are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Digest>,
    /// Of the files in which references were filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filled: Option<Digest>,
}

fn digest_of_filled(files: &[FilledFile]) -> Result<Digest, BuildError> {
    let text = serde_json::to_vec(files);
    let text = text.map_err(|e| BuildError::Invalid(e.to_string()))?;
    Ok(Digest::of(&text))
}

/// A file of an overlay as it is with its references filled in.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FilledFile {
    /// In the overlay.
    path: PathBuf,
    text: String,
}

/// Those files of an overlay that differ from what is written.
#[derive(Default)]
struct FilledFiles {
    files: Vec<FilledFile>,
    warnings: Vec<Diagnostic>,
}

fn filled_files(
    context: &BuildContext<'_>,
    overlay: &Path,
    which: &PreprocessedFiles,
) -> Result<FilledFiles, BuildError> {
    let variables = &context.options.variables;
    let env = |name: &str| variables.get(name).cloned();
    let mut filled = FilledFiles::default();
    let mut wrong = Vec::new();
    let mut patterns: Vec<_> = match which {
        PreprocessedFiles::All => Vec::new(),
        PreprocessedFiles::Matching(patterns) => patterns.iter().map(|p| (p, false)).collect(),
    };
    for entry in WalkDir::new(overlay).sort_by_file_name() {
        let entry = entry.map_err(|error| BuildError::Invalid(error.to_string()))?;
        // What a link leads to is filled in where it is.
        if !entry.file_type().is_file() {
            continue;
        }
        let path = entry.path().strip_prefix(overlay).unwrap_or(entry.path());
        let mut is_wanted = *which == PreprocessedFiles::All;
        for (pattern, has_matched) in &mut patterns {
            if is_meant(pattern, path) {
                (*has_matched, is_wanted) = (true, true);
            }
        }
        if !is_wanted {
            continue;
        }
        let bytes = fs::read(entry.path()).at("read", entry.path())?;
        let Ok(written) = String::from_utf8(bytes) else {
            continue;
        };
        if !written.contains("{{") {
            continue;
        }
        let templates = &context.project.templates;
        match templates.fill(entry.path(), &written, &env) {
            Ok(found) => {
                filled.warnings.extend(found.warnings);
                if found.text != written {
                    filled.files.push(FilledFile {
                        path: path.to_owned(),
                        text: found.text,
                    });
                }
            }
            Err(found) => wrong.extend(found),
        }
    }
    for (pattern, _) in patterns.iter().filter(|(_, has_matched)| !has_matched) {
        let text = pattern.as_str().escape_debug();
        let message = format!("`preprocess` has `{text}`, and no file of the overlay is of it");
        filled.warnings.push(pattern.place.warning(message));
    }
    if wrong.is_empty() {
        return Ok(filled);
    }
    Err(BuildError::Project { diagnostics: wrong })
}

/// Whether a file of an overlay is of a pattern; of one without `/` by its name alone.
fn is_meant(pattern: &PathPattern, path: &Path) -> bool {
    let compared = if pattern.as_str().contains('/') {
        path
    } else {
        path.file_name().map_or(path, Path::new)
    };
    pattern.matches(compared, HiddenNames::Match)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_files() {
        for (pattern, path, expected) in [
            ("*.conf", "etc/app/a.conf", true),
            ("*.conf", "etc/a.config", false),
            ("etc/*.conf", "etc/a.conf", true),
            ("etc/*.conf", "etc/app/a.conf", false),
            ("etc/**", "etc/app/a.conf", true),
            ("etc/**", "etc", false),
            ("etc/**", "etc/app/.hidden", true),
            ("*.conf", "etc/.a.conf", true),
            ("etc/**/a.conf", "etc/a.conf", true),
            ("**/a.conf", "etc/app/a.conf", true),
            ("etc/?.conf", "etc/a.conf", true),
            ("etc/?.conf", "etc/ab.conf", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
        ] {
            let meant = PathPattern::new(pattern).unwrap();
            assert_eq!(
                is_meant(&meant, Path::new(path)),
                expected,
                "{pattern} {path}"
            );
        }
    }
}
