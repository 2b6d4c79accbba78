//! What parent and child say to each other.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use avocado_events::Event;
use serde::{Deserialize, Serialize};

use crate::Processor;
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
    /// On another machine than its parent. It makes its view there itself, of what its parent shares. Its
    /// parent writes an empty line now and then, for as long as it lives and can be heard.
    Remote(RemotePlace),
}

/// Where a child is that is on another machine.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RemotePlace {
    /// What it sees of that machine; what it sees of the parent's is below the shares.
    pub(crate) view: JobView,
    /// What is mounted for it.
    pub(crate) shares: Vec<NfsShare>,
    /// Its whole environment, and that of its tools, but for PATH.
    pub(crate) environment: BTreeMap<String, OsString>,
}

/// A directory of the parent's machine, and where the child mounts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NfsShare {
    pub(crate) server: SocketAddr,
    /// The server exports `/<name>`.
    pub(crate) name: String,
    pub(crate) point: PathBuf,
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
    /// Says what runs programs for a processor here, as text, or nothing.
    EmulatorIdentity(Processor),
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
    /// What the parent shares could not be reached, or not be written to the end.
    Share,
    /// The job; with [`JobError::kind`](crate::JobError::kind).
    Job(Option<String>),
}
