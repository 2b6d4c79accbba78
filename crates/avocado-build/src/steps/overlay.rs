//! Files of the project that are laid over a tree.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink};
use avocado_manifest::Digest;
use avocado_project::{Diagnostic, PreprocessedFiles};
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::hook::{is_source_mount, source_mount};
use crate::build_context::{BuildContext, FilesOfProject};
use crate::error::{At as _, BuildError, TreeFault};
use crate::step_context::StepContext;
use crate::trees::{self, Tree};

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
                let text = serde_json::to_vec(&filled.files);
                let text = text.map_err(|e| BuildError::Invalid(e.to_string()))?;
                Some(Digest::of(&text))
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

    /// Lays it over a tree.
    pub(crate) fn apply(&self, context: &StepContext<'_>, root: &Tree) -> Result<(), BuildError> {
        let from = trees::of_project(&self.project.join(&self.dir))?;
        trees::copy(&from, root, Path::new(""), context.modes)?;
        for FilledFile { path, text } in &self.texts {
            let copied = root.file(path)?.map(|file| file.metadata());
            let mode = copied.transpose().at("look at", path)?;
            let mode = mode.map_or(0o644, |metadata| metadata.mode() & 0o7777);
            root.write(path, text, mode)?;
        }
        Ok(())
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
    for entry in WalkDir::new(overlay).sort_by_file_name() {
        let entry = entry.map_err(|error| BuildError::Invalid(error.to_string()))?;
        // What a link leads to is filled in where it is.
        if !entry.file_type().is_file() {
            continue;
        }
        let path = entry.path().strip_prefix(overlay).unwrap_or(entry.path());
        if !is_meant(which, path) {
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
    if wrong.is_empty() {
        return Ok(filled);
    }
    Err(BuildError::Project { diagnostics: wrong })
}

fn is_meant(which: &PreprocessedFiles, path: &Path) -> bool {
    let PreprocessedFiles::Matching(patterns) = which else {
        return true;
    };
    let Some(path) = path.to_str() else {
        return false;
    };
    patterns.iter().any(|pattern| {
        let pattern = pattern.trim_start_matches('/');
        if pattern.contains('/') {
            let (pattern, path): (Vec<&str>, Vec<&str>) =
                (pattern.split('/').collect(), path.split('/').collect());
            path_matches(&pattern, &path)
        } else {
            let name = path.rsplit('/').next().unwrap_or(path);
            name_matches(pattern.as_bytes(), name.as_bytes())
        }
    })
}

/// Whether a path is of a pattern, of which `**` stands for any number of directories.
fn path_matches(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", [])), _) => !path.is_empty(),
        (Some((&"**", rest)), _) => {
            let starts = 0..=path.len();
            starts
                .into_iter()
                .any(|start| path_matches(rest, &path[start..]))
        }
        (Some((name, rest)), Some((own, below))) => {
            name_matches(name.as_bytes(), own.as_bytes()) && path_matches(rest, below)
        }
        _ => false,
    }
}

/// Whether a name is of a pattern, of which `*` stands for any characters and `?` for one.
fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(b'?') => {
                at += 1;
                from += 1;
            }
            Some(byte) if *byte == name[from] => {
                at += 1;
                from += 1;
            }
            _ => match star {
                // The star takes one more.
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    at = place + 1;
                    from = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
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
            ("/etc/*.conf", "etc/a.conf", true),
            ("etc/*.conf", "etc/app/a.conf", false),
            ("etc/**", "etc/app/a.conf", true),
            ("etc/**", "etc", false),
            ("etc/**/a.conf", "etc/a.conf", true),
            ("**/a.conf", "etc/app/a.conf", true),
            ("etc/?.conf", "etc/a.conf", true),
            ("etc/?.conf", "etc/ab.conf", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
        ] {
            let which = PreprocessedFiles::Matching(vec![pattern.to_owned()]);
            assert_eq!(
                is_meant(&which, Path::new(path)),
                expected,
                "{pattern} {path}"
            );
        }
        assert!(is_meant(&PreprocessedFiles::All, Path::new("any")));
    }
}
