use std::io;
use std::path::PathBuf;

use avocado_fs::PathError;

use crate::ToolError;

/// A job had no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The job's own process could not be started or talked to.
    #[error("cannot run a step with {}", program.display())]
    Start {
        /// Our own program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host lets this user make no namespace.
    #[error("{message}")]
    Namespace {
        /// The outermost cause.
        message: String,
        /// The causes below it.
        #[source]
        source: Option<Box<RemoteCause>>,
    },
    /// The job ended without a result.
    #[error("the step ended without a result ({status}){said}")]
    Died {
        /// How it ended.
        status: String,
        /// What it left on standard error.
        said: String,
    },
    /// The job said why it failed.
    #[error("{message}")]
    Failed {
        /// [`JobError::kind`](crate::JobError::kind).
        kind: Option<String>,
        /// The outermost cause.
        message: String,
        /// The causes below it.
        #[source]
        source: Option<Box<RemoteCause>>,
    },
    /// The result is not what the caller expects.
    #[error("the step's result cannot be understood")]
    Result(#[source] serde_json::Error),
    /// The user asked to stop.
    #[error("stopped")]
    Cancelled,
    /// A tool's file cannot be looked at to tell which version it is.
    #[error(transparent)]
    ToolFile(#[from] PathError),
    /// A tool failed outside a job.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// One cause in a chain that came from another process.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RemoteCause {
    message: String,
    #[source]
    source: Option<Box<RemoteCause>>,
}

impl RemoteCause {
    /// The chain of these messages, outermost first.
    pub(crate) fn chain(mut messages: impl Iterator<Item = String>) -> Option<Box<Self>> {
        let message = messages.next()?;
        Some(Box::new(RemoteCause {
            message,
            source: RemoteCause::chain(messages),
        }))
    }
}
