//! Where something of the project is written, for what can only be said when it is used.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::diagnostic::{Diagnostic, Severity, Snippet};

/// A place in a file of the project. `Display` is `avocado.yaml:12:5`.
///
/// It is no part of what a step consumes: a line more above it changes no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePlace {
    /// The file.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    pub(crate) snippet: Option<Snippet>,
}

impl SourcePlace {
    /// An error about what is written here.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            message: message.into(),
            hint: None,
            snippet: self.snippet.clone(),
        }
    }

    /// A warning about what is written here.
    pub fn warning(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            ..self.error(message)
        }
    }

    /// That this version cannot do what is written here.
    pub fn unsupported(&self, what: &str) -> Diagnostic {
        self.error(format!("{what} is not supported by this version yet"))
    }
}

impl fmt::Display for SourcePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        write!(f, "{file}:{}:{}", self.line, self.column)
    }
}

impl Serialize for SourcePlace {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A value and the place that it has in the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it is written.
    pub place: SourcePlace,
}

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Serialize> Serialize for Placed<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(to)
    }
}

/// A value that only some steps need: that it is not there is no reason not to read the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needed<T> {
    /// It is there.
    Known(T),
    /// It is not, and this is what to say to those who need it.
    Missing(Box<Diagnostic>),
}

impl<T> Needed<T> {
    /// The value.
    ///
    /// # Errors
    /// With what to say where it is missing.
    pub fn get(&self) -> Result<&T, &Diagnostic> {
        match self {
            Needed::Known(value) => Ok(value),
            Needed::Missing(why) => Err(why),
        }
    }

    /// The value, where it is there.
    pub fn known(&self) -> Option<&T> {
        self.get().ok()
    }
}

impl<T: Serialize> Serialize for Needed<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.known().serialize(to)
    }
}
