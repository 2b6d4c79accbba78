//! How errors of elsewhere become errors of a build.

use std::io;
use std::path::Path;

use avocado_backend::{JobError, ToolError};

use super::{BuildError, ToolFailure};
use crate::failure_kind::FailureKind;

impl From<avocado_fs::PathError> for BuildError {
    fn from(error: avocado_fs::PathError) -> Self {
        BuildError::Io {
            action: error.action,
            path: error.path,
            source: error.source,
        }
    }
}

impl avocado_engine::TaskError for BuildError {
    fn is_cancelled(&self) -> bool {
        BuildError::is_cancelled(self)
    }
}

impl From<avocado_engine::EngineError<BuildError>> for BuildError {
    fn from(error: avocado_engine::EngineError<BuildError>) -> Self {
        use avocado_engine::EngineError;
        let failed = |step, source| BuildError::Step {
            step,
            source: Box::new(source),
        };
        match error {
            EngineError::Task { stage, source } => failed(stage, source),
            EngineError::Stamp { stage, source } => failed(stage, source.into()),
            EngineError::Graph(error) => error.into(),
            EngineError::Stopped => BuildError::Cancelled,
            other => BuildError::Invalid(other.to_string()),
        }
    }
}

impl JobError for BuildError {
    fn kind(&self) -> Option<&'static str> {
        BuildError::kind(self).map(FailureKind::name)
    }
}

impl From<ToolError> for BuildError {
    fn from(error: ToolError) -> Self {
        BuildError::Tool(ToolFailure::read_by(error, |_| None))
    }
}

/// Says on which file an I/O error happened.
pub(crate) trait At<T> {
    /// `action` reads as in "cannot `action` `path`".
    fn at(self, action: &'static str, path: &Path) -> Result<T, BuildError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, BuildError> {
        self.map_err(|source| BuildError::Io {
            action,
            path: path.to_owned(),
            source,
        })
    }
}
