//! What every backend offers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Debug;
use std::path::PathBuf;

use avocado_events::{Cancel, Sink};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{BackendError, Processor};

/// A place where tools run: this host, a container, another host.
pub trait Backend: Debug + Send + Sync {
    /// What jobs can do here.
    fn capabilities(&self) -> Capabilities;

    /// Runs a job to its end and returns its result, whose form is the caller's. [`Job::run_on`]
    /// knows it.
    ///
    /// # Errors
    /// When the job fails, cannot be started, or `cancel` asks to stop; its process and its tools
    /// are gone then.
    fn run(
        &self,
        job: &Job,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<serde_json::Value, BackendError>;

    /// Gets what jobs are done in where it is not there yet, which can take minutes and be stopped: what
    /// the first job would do otherwise.
    ///
    /// # Errors
    /// When it cannot be had.
    fn prepare(&self) -> Result<(), BackendError> {
        Ok(())
    }

    /// What a tool of this place says of itself: equal for two tools that make the same of the
    /// same input, wherever they are installed. `None` where the tool is not there.
    ///
    /// The answer is found once per run. Where the tool is what it was in an earlier run, no
    /// process is started for it.
    ///
    /// # Errors
    /// When the tool is there and nothing can be found out about it.
    fn tool_identity(&self, query: &ToolQuery) -> Result<Option<String>, BackendError>;

    /// What has programs for `processor`, another one than this machine's, run in jobs: equal for the
    /// same emulator, wherever it is installed. `None` where nothing does, so that they do not start.
    ///
    /// # Errors
    /// When the emulator is there and cannot be read.
    fn emulator_identity(&self, processor: Processor) -> Result<Option<String>, BackendError>;

    /// How many processes were started so far, tools included.
    fn processes(&self) -> u64;
}

/// What jobs can do in a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Mount the file system in an image.
    pub loop_mounts: bool,
    /// Open block devices.
    pub devices: bool,
    /// Reach the network.
    pub network: bool,
}

/// How a tool is asked what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolQuery {
    /// Its name on PATH.
    pub tool: &'static str,
    /// With these arguments it says its version in the first line of its output, and does nothing
    /// else.
    pub arguments: &'static [&'static str],
}

/// Work for a backend.
#[derive(Debug, Clone)]
pub struct Job {
    /// The stage under which its events appear.
    pub stage: String,
    /// The environment of the job and of its tools: all of it but PATH, which is the backend's.
    pub environment: BTreeMap<String, OsString>,
    /// What of the host the job sees elsewhere, or may change. Of everything else of the host it
    /// needs nothing but tools: where it sees it, it is read-only, and temporary directories are its
    /// own. A job makes no mounts of its own,
    /// for a container without privileges could not.
    pub mounts: Vec<Mount>,
    /// Directories of the host that the job does not see: it finds empty ones.
    pub hidden: Vec<PathBuf>,
    /// Files and directories that it sees all the same, though they are below a hidden or a
    /// temporary one. What of them is not there does not matter.
    pub visible: Vec<PathBuf>,
    /// Whether it reaches the network of the host; otherwise it has none.
    pub network: bool,
    /// Whether it gets the standard streams of this process, for a command of the user's.
    pub terminal: bool,
    /// Another processor than that of this machine, of which it may start programs: they run where the
    /// backend can have them emulated.
    pub emulates: Option<Processor>,
    /// Whether the job may ask for loop mounts. It gets them where the backend can make them.
    pub loop_mounts: bool,
    /// What to do, in the caller's own terms.
    pub request: serde_json::Value,
}

/// A directory of the host that a job sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// Inside the job. Below `/opt` it need not exist on the host.
    pub target: PathBuf,
    /// What the job may do there.
    pub access: MountAccess,
}

/// What a job may do in a directory of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountAccess {
    /// Read.
    Read,
    /// Read and write; devices in it do not work.
    Write,
}

impl Job {
    /// Runs this job to its end and returns its result.
    ///
    /// # Errors
    /// As [`Backend::run`], and when the result is not what the caller expects.
    pub fn run_on<R: DeserializeOwned>(
        &self,
        backend: &dyn Backend,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<R, BackendError> {
        let result = backend.run(self, cancel, sink)?;
        serde_json::from_value(result).map_err(BackendError::Result)
    }
}
