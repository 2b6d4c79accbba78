//! The process of the supervisor, from its start to its end.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use avocado_events::{Event, Sink};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cleanup::{remove_partial_files, remove_runtime_files};
use super::context::SupervisorContext;
use super::docker_tunnel::{DockerTunnel, ProcessObserver};
use super::error::SupervisorError;
use super::forwards::{Forwards, PublishedObserver, follow_docker};
use super::lanes::Lanes;
use super::listeners::LaneListeners;
use super::log::SupervisorLog;
use super::machine_record::MachineRecord;
use super::owner::{OwnerParts, SharedRecord, VmOwner};
use super::owner_handle::OwnerHandle;
use super::protocol::StartVerdict;
use super::request_server;
use super::start_report::StartReport;
use crate::access;
use crate::dir::{StateDir, StateFile};
use crate::launch::VmLaunch;
use crate::lock::VmLock;
use crate::status::VmStatus;

/// Descriptors that many connections need: two each.
const DESCRIPTOR_LIMIT: u64 = 4096;
/// How long the last answers to requests may take.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// What others are told while the lock is held.
const HOLDER_NAME: &str = "avocado vm supervise";

/// The whole of `avocado vm supervise`: becomes a process of its own, reads a [`VmLaunch`] as JSON
/// from the standard input, tells on the standard output how the start goes, closes that, and owns
/// the VM until it ends. `path` is where programs are found (PATH).
///
/// # Errors
/// What also was told on the standard output: the VM did not start. Or it ended badly later.
pub fn main(dir: &StateDir, path: Option<OsString>) -> Result<(), SupervisorError> {
    let system = |what| {
        move |errno: rustix::io::Errno| SupervisorError::System {
            what,
            source: errno.into(),
        }
    };
    // Files and sockets are for their user alone, also those that QEMU makes.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Fails where it leads a session already.
    let _ = rustix::process::setsid();
    let limit = getrlimit(Resource::Nofile);
    let current = limit
        .maximum
        .map_or(DESCRIPTOR_LIMIT, |most| most.min(DESCRIPTOR_LIMIT));
    if limit.current.is_some_and(|have| have < current) {
        let raised = Rlimit {
            current: Some(current),
            ..limit
        };
        let _ = setrlimit(Resource::Nofile, raised);
    }
    let pipe = rustix::io::fcntl_dupfd_cloexec(std::io::stdout().as_fd(), 3);
    let pipe = pipe.map_err(system("use the standard output"))?;
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    let null = null.map_err(|source| SupervisorError::System {
        what: "open /dev/null",
        source,
    })?;
    rustix::stdio::dup2_stdout(&null).map_err(system("close the standard output"))?;

    let log = SupervisorLog::open(&dir.file(StateFile::SupervisorLog));
    let report = Arc::new(StartReport::new(pipe.into(), log.clone()));
    let result = read_launch().and_then(|launch| {
        rustix::stdio::dup2_stdin(&null).map_err(system("close the standard input"))?;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build();
        let runtime = runtime.map_err(|source| SupervisorError::System {
            what: "start a runtime",
            source,
        })?;
        let search = path.iter().flat_map(std::env::split_paths).collect();
        let (sink, ready) = (report.clone(), report.clone());
        let ready = Box::new(move |status| ready.close(&StartVerdict::Ready(Box::new(status))));
        runtime.block_on(run(dir, launch, search, sink, ready))
    });
    if let Err(error) = &result {
        log.line(&format!("error: {}", avocado_events::chain(error)));
        report.close(&StartVerdict::Failed(error.failure()));
    }
    result
}

fn read_launch() -> Result<VmLaunch, SupervisorError> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|source| SupervisorError::System {
        what: "read the launch",
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| SupervisorError::Protocol {
        what: "the launch",
        source,
    })
}

/// Owns the VM of `dir` until it ends. `ready` is called once, when it is up. `search` is where
/// QEMU is looked for.
///
/// # Errors
/// The VM did not start, and nothing of it is left; or it ended badly later.
pub async fn run(
    dir: &StateDir,
    launch: VmLaunch,
    search: Vec<PathBuf>,
    sink: Arc<dyn Sink>,
    ready: Box<dyn FnOnce(VmStatus) + Send>,
) -> Result<(), SupervisorError> {
    dir.create()?;
    dir.check_sockets()?;
    let _lock = VmLock::take(dir, HOLDER_NAME)?;
    let log = SupervisorLog::open(&dir.file(StateFile::SupervisorLog));
    log.line("a supervisor starts");
    remove_partial_files(dir);
    let result = own_vm(dir, launch, search, sink, ready, log).await;
    // A machine that could not even be taken over is not ours to forget.
    let lives = MachineRecord::read(dir).and_then(|record| record.process(dir));
    remove_runtime_files(dir, lives.is_some());
    result
}

async fn own_vm(
    dir: &StateDir,
    launch: VmLaunch,
    search: Vec<PathBuf>,
    sink: Arc<dyn Sink>,
    ready: Box<dyn FnOnce(VmStatus) + Send>,
    log: SupervisorLog,
) -> Result<(), SupervisorError> {
    let listeners = LaneListeners::bind(dir, &launch).await?;
    if let Some(taken) = &listeners.last_port_taken {
        let port = listeners.ssh_port;
        sink.emit(Event::warning(format!(
            "the ssh port is {port} this time, not that of the last start: {taken}"
        )));
    }
    for note in &listeners.notes {
        log.line(note);
    }
    let ports = (listeners.ssh_port, listeners.infra_port);
    dir.write(
        StateFile::SupervisorPid,
        std::process::id().to_string().as_bytes(),
    )?;
    dir.write(StateFile::SshPort, ports.0.to_string().as_bytes())?;
    match ports.1 {
        Some(port) => dir.write(StateFile::InfraSshPort, port.to_string().as_bytes())?,
        None => dir.remove(StateFile::InfraSshPort)?,
    }
    access::write_ssh_config(dir, ports.0)?;

    let record: SharedRecord = Arc::default();
    let tunnel = DockerTunnel::new(dir, &log, tunnel_recorder(dir, &record));
    let (handle, inbox) = OwnerHandle::new();
    let mut clients = JoinSet::new();
    let lanes = Lanes::new(dir, handle.clone(), tunnel.clone(), log.clone());
    let control = listeners.serve(&lanes, &mut clients);
    let shared = handle.shared.clone();
    let keep = published_recorder(dir, &record);
    let forwards = Forwards::new(&lanes, tunnel.clone(), shared, log.clone(), keep);
    if launch.forward_published {
        // Of a machine that still runs: it may sleep, and is not asked then.
        let left = MachineRecord::read(dir).filter(|left| left.process(dir).is_some());
        let known = left.map(|left| left.published).unwrap_or_default();
        clients.spawn(follow_docker(forwards.clone(), known));
    }
    let (ending, end) = watch::channel(false);
    let requests = request_server::serve_all(control, handle.clone(), forwards.clone(), end);
    let requests = tokio::spawn(requests);
    let context = Arc::new(SupervisorContext {
        dir: dir.clone(),
        launch,
        search,
        sink,
    });
    let owner = VmOwner::new(OwnerParts {
        context,
        log,
        handle,
        inbox,
        tunnel,
        record,
        ports,
        on_ready: ready,
    });
    let result = owner.run().await;
    clients.shutdown().await;
    forwards.end().await;
    let _ = ending.send(true);
    let _ = tokio::time::timeout(LAST_ANSWERS, requests).await;
    result
}

/// Keeps the tunnel's process in the record of the machine.
fn tunnel_recorder(dir: &StateDir, record: &SharedRecord) -> ProcessObserver {
    let (dir, record) = (dir.clone(), record.clone());
    Box::new(move |identity| {
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = &mut *record {
            record.tunnel = identity;
            // An orphaned ssh then ends by itself, when its connection to the guest does.
            let _ = record.write(&dir);
        }
    })
}

/// Keeps what is published in the record of the machine.
fn published_recorder(dir: &StateDir, record: &SharedRecord) -> PublishedObserver {
    let (dir, record) = (dir.clone(), record.clone());
    Box::new(move |published| {
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = &mut *record
            && record.published != published
        {
            record.published = published.to_vec();
            // What is not written down is known again when the guest runs.
            let _ = record.write(&dir);
        }
    })
}
