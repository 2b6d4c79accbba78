//! What parent and child say to each other.

use std::path::PathBuf;

use avocado_events::Event;
use serde::{Deserialize, Serialize};

use crate::Mount;

/// The one document on the child's standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) view: JobView,
    /// Whether the job may ask for loop mounts, and this backend can make them.
    pub(crate) loop_mounts: bool,
    /// The descriptors of the [`Terminal`](crate::Terminal) that the job has.
    pub(crate) terminal: Option<[i32; 3]>,
    pub(crate) job: serde_json::Value,
}

/// What a job sees of the host, as it declared it: see [`Job`](crate::Job).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct JobView {
    /// Whether the network of the host is reached.
    pub(crate) network: bool,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) visible: Vec<PathBuf>,
    pub(crate) hidden: Vec<PathBuf>,
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

/// Why a job failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) origin: FailureOrigin,
    /// What people read, outermost cause first. Nothing hangs on the words.
    pub(crate) causes: Vec<String>,
}

/// Who failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailureOrigin {
    /// The host refused a namespace, or what can be done in one.
    Namespace,
    /// The job; with [`JobError::kind`](crate::JobError::kind).
    Job(Option<String>),
}
