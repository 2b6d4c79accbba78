//! What is wrong with avocado.yaml, for people and for programs.

pub(crate) mod mask;
mod render;

use std::fmt;
use std::path::PathBuf;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The project cannot be used.
    Error,
    /// The project can be used; something in it has no effect or is out of date.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One thing that is wrong with avocado.yaml. `Display` is one line,
/// `avocado.yaml:12:5: message`; [`Diagnostic::render`] adds the source line and the hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as it was named to [`crate::load`]; another one where the project has parts of
    /// other projects.
    pub file: PathBuf,
    /// From 1; 0 where the message is about the file as a whole.
    pub line: u32,
    /// From 1, in characters; 0 where the message is about the file as a whole.
    pub column: u32,
    /// What is wrong, on what.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The source line, unless it is too long to be of use.
    pub snippet: Option<Snippet>,
}

/// The line of a file that a [`Diagnostic`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The line, as it was written, without its line end.
    pub line: String,
    /// The first byte of what the message is about.
    pub start: usize,
    /// The first byte after it: not before `start`, and not behind the end of the line.
    pub end: usize,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.line {
            0 => write!(f, "{file}: {}", self.message),
            line => write!(f, "{file}:{line}:{}: {}", self.column, self.message),
        }
    }
}

impl Diagnostic {
    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the hint.
    pub(crate) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }
}
