use std::error::Error;
use std::fmt;

use avocado_backend::ToolError;

use crate::failure_kind::FailureKind;

/// A tool's failure, and what it is about as far as the one who ran it can tell.
#[derive(Debug)]
pub struct ToolFailure {
    error: ToolError,
    kind: Option<FailureKind>,
}

impl ToolFailure {
    /// The failure of a tool whose words are known to whoever ran it: `kind` reads them.
    pub(crate) fn read_by(
        error: ToolError,
        kind: impl FnOnce(&ToolError) -> Option<FailureKind>,
    ) -> Self {
        ToolFailure {
            kind: FailureKind::of_tool(&error).or_else(|| kind(&error)),
            error,
        }
    }

    /// What it is about.
    pub(super) fn kind(&self) -> Option<FailureKind> {
        self.kind
    }
}

impl fmt::Display for ToolFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for ToolFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
