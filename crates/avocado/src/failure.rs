//! Why a command did not do what it was asked: what a person reads, and the exit code.

use std::error::Error;
use std::fmt::Display;
use std::io::ErrorKind;

use avocado_project::Diagnostic;
use serde::{Serialize, Serializer};

/// The exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// It failed.
    Failed = 1,
    /// It was asked for something that it does not do.
    Usage = 2,
    /// It was interrupted: 128 + SIGINT, as shells count.
    Interrupted = 130,
}

/// A command's end without a result.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    #[serde(skip)]
    pub(crate) code: ExitStatus,
    /// What failed, on what.
    pub(crate) message: String,
    /// Why, from the nearest cause to the root.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) causes: Vec<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// What is wrong with avocado.yaml, where that is the reason. `message` has it in short.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "serialize_all"
    )]
    pub(crate) diagnostics: Vec<Diagnostic>,
}

fn serialize_all<S: Serializer>(diagnostics: &[Diagnostic], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(diagnostics.iter().map(|d| {
        serde_json::json!({
            "severity": d.severity.to_string(),
            "file": d.file,
            "line": d.line,
            "column": d.column,
            "message": d.message,
            "hint": d.hint,
        })
    }))
}

/// The result of a command.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Failure {
            code: ExitStatus::Failed,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            diagnostics: Vec::new(),
        }
    }

    /// Asked for something that this program, or this version of it, does not do.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure {
            code: ExitStatus::Usage,
            ..Failure::new(message)
        }
    }

    pub(crate) fn interrupted() -> Self {
        Failure {
            code: ExitStatus::Interrupted,
            ..Failure::new("interrupted")
        }
    }

    /// From an error with its whole chain of sources.
    pub(crate) fn from_error(error: &dyn Error) -> Self {
        let failure = Failure::new(error.to_string());
        match error.source() {
            Some(source) => failure.because(source),
            None => failure,
        }
    }

    /// Adds an error and its sources as causes. A cause that says only what the line before it
    /// has already said is left out.
    pub(crate) fn because(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            let before = self.causes.last().unwrap_or(&self.message);
            if !text.is_empty() && !before.contains(&text) {
                self.causes.push(text);
            }
            next = cause.source();
        }
        self
    }

    /// Adds the words of another program as a cause.
    #[cfg(target_os = "linux")]
    pub(crate) fn said(mut self, lines: &[String]) -> Self {
        if !lines.is_empty() {
            self.causes.push(lines.join("\n"));
        }
        self
    }

    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// From what [`avocado_project`] says.
    pub(crate) fn from_project(error: &avocado_project::ProjectError) -> Self {
        let diagnostics = error.diagnostics();
        let hint = match error {
            avocado_project::ProjectError::Read { source, .. }
                if source.kind() == ErrorKind::NotFound =>
            {
                Some("`avocado init` starts a project; -C names the file of another one".to_owned())
            }
            avocado_project::ProjectError::Changed { .. } => Some(
                "run the command again: packages were installed and locked that it does not list"
                    .to_owned(),
            ),
            avocado_project::ProjectError::Owner { .. } => {
                Some("run the command as the owner of the file, or edit it by hand".to_owned())
            }
            _ => diagnostics.iter().find_map(|d| d.hint.clone()),
        };
        Failure {
            diagnostics: diagnostics.to_vec(),
            ..Failure::from_error(error).maybe_hint(hint)
        }
    }

    /// Adds what is wrong with the project: with that, its places are shown.
    #[cfg(target_os = "linux")]
    pub(crate) fn about_project(self, diagnostics: &[Diagnostic]) -> Self {
        Failure {
            diagnostics: diagnostics.to_vec(),
            ..self
        }
    }

    /// Adds a hint where there is one.
    pub(crate) fn maybe_hint(self, hint: Option<impl Display>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }
}

/// Names what was being done when an error came up.
pub(crate) trait Context<T> {
    /// Turns the error into a [`Failure`] that says `what` and has the error as its cause.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Error> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Failure::new(what()).because(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn chain(texts: &[&'static str]) -> Layer {
        let mut layers = texts.iter().rev();
        let mut error = Layer {
            text: layers.next().unwrap(),
            source: None,
        };
        for text in layers {
            error = Layer {
                text,
                source: Some(Box::new(error)),
            };
        }
        error
    }

    #[test]
    fn every_cause_is_said_once() {
        for (texts, causes) in [
            (&["a failed"][..], &[][..]),
            (&["cannot read x", "no such file"], &["no such file"]),
            (&["cannot read x", "cannot read x", "gone"], &["gone"]),
            (&["reading x: gone", "gone"], &[]),
            (&["one", "two", "three"], &["two", "three"]),
        ] {
            let failure = Failure::from_error(&chain(texts));
            assert_eq!(failure.message, texts[0]);
            assert_eq!(failure.causes, causes, "{texts:?}");
        }
    }
}
