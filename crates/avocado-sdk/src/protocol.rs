//! What parent and child say to each other.

use avocado_events::Event;
use serde::{Deserialize, Serialize};

use crate::Mounts;

/// The one document on the child's standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) mounts: Mounts,
    pub(crate) job: serde_json::Value,
}

/// One line on the child's standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    Event(Event),
    /// A tool was started.
    Spawned,
    Result(serde_json::Value),
    Failure(Failure),
}

/// Why a job failed, outermost cause first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) causes: Vec<String>,
}
