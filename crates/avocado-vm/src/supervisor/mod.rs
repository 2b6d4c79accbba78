//! The owner of a running VM. It starts QEMU or takes over the one that is there, stands between
//! the guest and everybody who connects, lets it sleep while nobody uses it, wakes it on the next
//! connection, and ends with it.
//!
//! `policy` decides, `owner` does, `lanes` are what clients connect to, `gate` is what these
//! share. `bring_up` makes the machine, `jobs` is the work that takes time, `guest` what is done
//! in the guest.

mod bring_up;
mod error;
mod gate;
mod guest;
mod jobs;
mod lanes;
mod log;
mod notify;
mod owner;
mod policy;
mod proxy;
mod record;
mod report;
mod requests;
mod taken;
mod tunnel;
pub(crate) mod wire;

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use avocado_events::Sink;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use error::Error;
pub use wire::Failure;

use bring_up::Context;
use gate::Hub;
use lanes::Listeners;
use log::Log;
use owner::{Owner, Parts, SharedRecord};
use report::Report;
use tunnel::Tunnel;
use wire::Verdict;

use crate::access;
use crate::dir::{File, StateDir};
use crate::launch::Launch;
use crate::lock::Lock;
use crate::status::Status;

pub(crate) use log::last_lines;
pub(crate) use record::{Record, Saved};

/// Descriptors that many connections need: two each.
const DESCRIPTORS: u64 = 4096;
/// How long the last answers to requests may take.
const ANSWERS: Duration = Duration::from_secs(1);
/// What others are told while the lock is held.
const DOING: &str = "avocado vm supervise";

/// The whole of `avocado vm supervise`: becomes a process of its own, reads a [`Launch`] as JSON
/// from the standard input, tells on the standard output how the start goes, closes that, and owns
/// the VM until it ends. `path` is where programs are found (PATH).
///
/// # Errors
/// What also was told on the standard output: the VM did not start. Or it ended badly later.
pub fn main(dir: &StateDir, path: Option<OsString>) -> Result<(), Error> {
    let system = |what| {
        move |errno: rustix::io::Errno| Error::System {
            what,
            source: errno.into(),
        }
    };
    // Files and sockets are for their user, whoever makes them: QEMU makes some.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Fails where it leads a session already.
    let _ = rustix::process::setsid();
    let limit = getrlimit(Resource::Nofile);
    let current = limit
        .maximum
        .map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
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
    let null = null.map_err(|source| Error::System {
        what: "open /dev/null",
        source,
    })?;
    rustix::stdio::dup2_stdout(&null).map_err(system("close the standard output"))?;

    let log = Log::open(&dir.file(File::SupervisorLog));
    let report = Arc::new(Report::new(pipe.into(), log.clone()));
    let result = read_launch().and_then(|launch| {
        rustix::stdio::dup2_stdin(&null).map_err(system("close the standard input"))?;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build();
        let runtime = runtime.map_err(|source| Error::System {
            what: "start a runtime",
            source,
        })?;
        let search = path.iter().flat_map(std::env::split_paths).collect();
        let (sink, ready) = (report.clone(), report.clone());
        let ready = Box::new(move |status| ready.close(&Verdict::Ready(Box::new(status))));
        runtime.block_on(run(dir, launch, search, sink, ready))
    });
    if let Err(error) = &result {
        log.line(&format!("error: {}", avocado_events::chain(error)));
        report.close(&Verdict::Failed(error.failure()));
    }
    result
}

fn read_launch() -> Result<Launch, Error> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|source| Error::System {
        what: "read the launch",
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| Error::Protocol {
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
    launch: Launch,
    search: Vec<PathBuf>,
    sink: Arc<dyn Sink>,
    ready: Box<dyn FnOnce(Status) + Send>,
) -> Result<(), Error> {
    dir.create()?;
    dir.check_sockets()?;
    let _lock = Lock::take(dir, DOING)?;
    let log = Log::open(&dir.file(File::SupervisorLog));
    log.line("a supervisor starts");
    sweep(dir);
    let result = owned(dir, launch, search, sink, ready, log).await;
    // A machine that could not even be taken over is not ours to forget.
    let lives = Record::read(dir).and_then(|record| record.process(dir));
    tidy(dir, lives.is_some());
    result
}

async fn owned(
    dir: &StateDir,
    launch: Launch,
    search: Vec<PathBuf>,
    sink: Arc<dyn Sink>,
    ready: Box<dyn FnOnce(Status) + Send>,
    log: Log,
) -> Result<(), Error> {
    let listeners = Listeners::bind(dir, &launch).await?;
    let ports = (listeners.ssh_port, listeners.infra_port);
    dir.write(
        File::SupervisorPid,
        std::process::id().to_string().as_bytes(),
    )?;
    dir.write(File::SshPort, ports.0.to_string().as_bytes())?;
    match ports.1 {
        Some(port) => dir.write(File::InfraSshPort, port.to_string().as_bytes())?,
        None => dir.remove(File::InfraSshPort)?,
    }
    access::write_ssh_config(dir, ports.0)?;

    let record: SharedRecord = Arc::default();
    let tunnel = Tunnel::new(dir, &log, note_tunnel(dir, &record));
    let (hub, inbox) = Hub::new();
    let mut clients = JoinSet::new();
    let control = listeners.serve(&hub, &tunnel, &log, &mut clients);
    let (ending, end) = watch::channel(false);
    let requests = tokio::spawn(serve_requests(control, hub.clone(), end));
    let context = Arc::new(Context {
        dir: dir.clone(),
        launch,
        search,
        sink,
    });
    let owner = Owner::new(Parts {
        context,
        log,
        hub,
        inbox,
        tunnel,
        record,
        ports,
        ready,
    });
    let result = owner.run().await;
    clients.shutdown().await;
    let _ = ending.send(true);
    let _ = tokio::time::timeout(ANSWERS, requests).await;
    result
}

/// Serves requests until the end; then returns when the last answers are given.
async fn serve_requests(listener: tokio::net::UnixListener, hub: Hub, end: watch::Receiver<bool>) {
    let mut clients = JoinSet::new();
    let mut ending = end.clone();
    loop {
        tokio::select! {
            () = over(&mut ending) => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(clients.spawn(requests::serve(stream, hub.clone(), end.clone()))),
                // Out of descriptors, most likely.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
        }
    }
    while clients.join_next().await.is_some() {}
}

/// Returns when it is over.
async fn over(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Keeps the tunnel's process in the record of the machine.
fn note_tunnel(dir: &StateDir, record: &SharedRecord) -> tunnel::Note {
    let (dir, record) = (dir.clone(), record.clone());
    Box::new(move |identity| {
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = &mut *record {
            record.tunnel = identity;
            let _ = record.write(&dir);
        }
    })
}

/// Removes what a supervisor that was killed had half written. The caller holds the lock, without
/// which nobody writes these files.
fn sweep(dir: &StateDir) {
    let names = [
        File::ArtifactDir,
        File::InfraSshPort,
        File::InternalSshPort,
        File::Machine,
        File::Manifest,
        File::Saved,
        File::SshConfig,
        File::SshKey,
        File::SshPort,
        File::SupervisorPid,
        File::Var,
        File::Workspace,
    ]
    .map(File::name);
    for entry in fs::read_dir(dir.root()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let partial = name.to_str().and_then(|name| name.strip_prefix('.'));
        let whole = partial.and_then(|name| name.rsplit_once('.'));
        if whole.is_some_and(|(whole, _)| names.contains(&whole) || whole == bring_up::PROBE) {
            let path = entry.path();
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
}

/// Removes what belongs to a running VM. The caller holds the lock. With `machine` what belongs to
/// QEMU stays.
pub(crate) fn tidy(dir: &StateDir, machine: bool) {
    let ours = [
        File::Docker,
        File::DockerStream,
        File::DockerInternal,
        File::Supervisor,
        File::SupervisorPid,
        File::SshPort,
        File::InternalSshPort,
        File::InfraSshPort,
        File::SshConfig,
    ];
    let qemus = [
        File::Qmp,
        File::SupervisorQmp,
        File::Agent,
        File::Control,
        File::QemuPid,
        File::Machine,
    ];
    let qemus = qemus.iter().filter(|_| !machine);
    for file in ours.iter().chain(qemus) {
        // What cannot be removed is in nobody's way: each start replaces it.
        let _ = dir.remove(*file);
    }
    if Saved::read(dir).is_none() {
        let _ = dir.remove(File::SavedMemory);
    }
}
