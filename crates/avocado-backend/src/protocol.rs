//! What parent and child say to each other.

use avocado_events::Event;
use serde::{Deserialize, Serialize};

use crate::job_view::JobView;

/// The one document on the child's standard input: a line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) place: Place,
    /// Whether the job may ask for loop mounts, and this backend can make them.
    pub(crate) loop_mounts: bool,
    /// The standard streams of the parent, where the job has them.
    pub(crate) terminal: Option<JobTerminal>,
    pub(crate) work: Work,
}

/// Where the child is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// On the host. It makes its view of it itself.
    Host(JobView),
    /// In a container, where the engine has done that. Its standard input stays open for as long as
    /// its parent lives, whose death does not reach it in another way.
    Container {
        /// Variables of its environment that it is not to have: the image and the engine have set
        /// them.
        forgotten: Vec<String>,
    },
}

/// What a child has as its [`Terminal`](crate::Terminal).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobTerminal {
    /// These descriptors, which it has inherited.
    Lent([i32; 3]),
    /// Its own standard streams, which the engine carries.
    Own,
}

/// What the child does.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// A job, in its caller's own terms.
    Job(serde_json::Value),
    /// Nothing: whether a child can be where it is.
    Check,
    /// Says what a tool is, as text, or nothing where it is not there.
    ToolIdentity {
        tool: String,
        /// [`ToolQuery::arguments`](crate::ToolQuery).
        arguments: Vec<String>,
    },
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
