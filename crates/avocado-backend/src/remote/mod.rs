//! The remote backend: jobs are children of an ssh server on another machine, each in namespaces of its
//! own there, into which it mounts what this machine shares over NFS. So whatever ends a job, its mounts
//! and everything that it started end with it.

mod facts;
mod host;
mod points;
mod remembered_backend;
mod shares;
pub(crate) mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use avocado_events::{Cancel, Silent, Sink};
use avocado_ssh::CONNECTION_FAILED;

use crate::job_process::JobProcess;
use crate::job_view::JobView;
use crate::protocol::{Place, RemotePlace, Request, Work};
use crate::{Backend, BackendError, Capabilities, Job, Processor, ToolQuery};
use remembered_backend::MachineTools;
use shares::Shares;

pub use remembered_backend::RememberedBackend;

pub use host::{RemoteHost, RemoteOptions, RemoteRoute};
pub use shares::SharedDirectory;

/// What a shell says by its status of a program that it could not start.
const PROGRAM_FAILED: [i32; 2] = [126, 127];

/// A loop device of an image on NFS would wait for a network that is cut, and outlive the job.
const CAPABILITIES: Capabilities = Capabilities {
    loop_mounts: false,
    devices: false,
    network: true,
};

/// Runs jobs on another machine, with its tools.
pub struct RemoteBackend<'a> {
    host: RemoteHost,
    shares: Shares,
    /// What the tools there said of themselves in this run: what is installed there may change
    /// meanwhile without a sign of it here.
    tools: Mutex<BTreeMap<&'static str, Option<String>>>,
    emulators: Mutex<BTreeMap<Processor, Option<String>>>,
    /// The same for those that only look, later, and where it is written.
    told: Mutex<MachineTools>,
    identities: PathBuf,
    cancel: &'a Cancel,
    processes: AtomicU64,
}

impl fmt::Debug for RemoteBackend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteBackend")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl<'a> RemoteBackend<'a> {
    /// A backend on `host`, to which the NFS server at `server`, an address as that machine knows it,
    /// exports these directories of this one. What the tools there say of themselves is written to the
    /// file `identities`, for [`RememberedBackend`].
    #[must_use]
    pub fn new(
        host: RemoteHost,
        server: SocketAddr,
        directories: Vec<SharedDirectory>,
        identities: PathBuf,
        cancel: &'a Cancel,
    ) -> Self {
        RemoteBackend {
            told: Mutex::new(MachineTools::read(&identities, &host.name())),
            identities,
            host,
            shares: Shares::new(server, directories),
            tools: Mutex::default(),
            emulators: Mutex::default(),
            cancel,
            processes: AtomicU64::new(0),
        }
    }

    fn count_process(&self) {
        self.processes.fetch_add(1, Ordering::Relaxed);
    }

    fn run_at(
        &self,
        place: RemotePlace,
        work: Work,
        stage: &str,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<serde_json::Value, BackendError> {
        let mut command = self.host.step();
        // Ctrl-C is for us to hear.
        command.process_group(0);
        let process = JobProcess {
            command,
            program: "ssh".as_ref(),
            stage,
            cancel,
            sink,
            count: &|| self.count_process(),
            socket: None,
        };
        let result = process.run(&Request {
            place: Place::Remote(place),
            loop_mounts: false,
            terminal: None,
            work,
        });
        result.map_err(|error| self.explained(error))
    }

    /// What ssh, or the shell there, means by its status, where the job said nothing.
    fn explained(&self, error: BackendError) -> BackendError {
        let BackendError::Died { status, said } = error else {
            return error;
        };
        let host = self.host.name();
        match status.code() {
            Some(CONNECTION_FAILED) => BackendError::RemoteLost { host, said },
            Some(code) if PROGRAM_FAILED.contains(&code) => BackendError::Remote {
                host,
                action: "run the program that it was sent".to_owned(),
                said,
            },
            _ => BackendError::Died { status, said },
        }
    }

    /// Asks a child there that sees nothing of this machine.
    fn ask(&self, work: Work) -> Result<Option<String>, BackendError> {
        let place = RemotePlace {
            view: JobView {
                network: true,
                ..JobView::default()
            },
            shares: Vec::new(),
            environment: BTreeMap::new(),
        };
        let answer = self.run_at(place, work, "", self.cancel, &Silent)?;
        serde_json::from_value(answer).map_err(BackendError::Result)
    }
}

impl Backend for RemoteBackend<'_> {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn run(
        &self,
        job: &Job,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<serde_json::Value, BackendError> {
        let host = || self.host.name();
        if job.terminal {
            return Err(BackendError::NoRemoteTerminal { host: host() });
        }
        let place = self.shares.place(job);
        let place =
            place.map_err(|path: PathBuf| BackendError::NotShared { path, host: host() })?;
        let work = Work::Job(job.request.clone());
        self.run_at(place, work, &job.stage, cancel, sink)
    }

    fn tool_identity(&self, query: &ToolQuery) -> Result<Option<String>, BackendError> {
        // Held while it is asked: other steps want to know the same.
        let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tools.get(query.tool) {
            return Ok(known.clone());
        }
        let identity = self.ask(Work::ToolIdentity {
            tool: query.tool.to_owned(),
            arguments: query.arguments.iter().map(|a| (*a).to_owned()).collect(),
        })?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.keep_tool(&self.identities, query.tool, identity.as_deref());
        tools.insert(query.tool, identity.clone());
        Ok(identity)
    }

    fn emulator_identity(&self, processor: Processor) -> Result<Option<String>, BackendError> {
        let emulators = self.emulators.lock();
        let mut emulators = emulators.unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = emulators.get(&processor) {
            return Ok(known.clone());
        }
        let identity = self.ask(Work::EmulatorIdentity(processor))?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.keep_emulator(&self.identities, processor, identity.as_deref());
        emulators.insert(processor, identity.clone());
        Ok(identity)
    }

    fn processes(&self) -> u64 {
        self.processes.load(Ordering::Relaxed)
    }
}
