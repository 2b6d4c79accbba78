//! What can go wrong in the harness.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::tools::ToolOutput;

/// Why the harness could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// A file operation failed.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried, as a verb.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot start `{command}`")]
    Start {
        /// The program and its arguments.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed: {output}")]
    Failed {
        /// The program and its arguments.
        command: String,
        /// How it ended and what it said.
        output: Box<ToolOutput>,
    },
    /// A program did not end in time, and was killed.
    #[error("`{command}` did not end within {limit:?}")]
    Endless {
        /// The program and its arguments.
        command: String,
        /// How long it had.
        limit: Duration,
    },
    /// A program said something that is not JSON where it should.
    #[error("this is not NDJSON:\n{text}")]
    NotJson {
        /// What it said.
        text: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {limit:?}{detail}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What is known about it: a log, the last answer. Empty, or starts a new line.
        detail: String,
    },
    /// The device stopped by itself.
    #[error("the device stopped while it should {what}; its console:\n{console}")]
    Gone {
        /// What it should have done.
        what: String,
        /// The end of its console.
        console: String,
    },
    /// A built program is not there.
    #[error("the program {name} is not built: {hint}")]
    NotBuilt {
        /// Its name.
        name: String,
        /// How to get it.
        hint: String,
    },
    /// A signal ends this process, so nothing more is started.
    #[error("interrupted")]
    Ending,
    /// All networks of the harness are taken.
    #[error("no free network below 10.231.0.0/16")]
    NoNetwork,
    /// An HTTP request to the device had no answer.
    #[error("no answer from {url}")]
    Http {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// A repository for a test could not be made.
    #[error("the repository of a test cannot be made")]
    Publish(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The sample feed's server did not start.
    #[error("the feed cannot be served")]
    Serve(#[source] avocado_serve::ServeError),
}

/// Makes a [`HarnessError::File`] of an I/O error.
pub(crate) fn file<E: Into<std::io::Error>>(
    what: &'static str,
    path: impl AsRef<Path>,
) -> impl FnOnce(E) -> HarnessError {
    move |source| HarnessError::File {
        what,
        path: path.as_ref().to_owned(),
        source: source.into(),
    }
}
