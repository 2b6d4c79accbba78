//! Talking to a VM from outside: starting its supervisor, and asking it.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use avocado_events::{Event, Sink};
use serde_json::Value;

use crate::dir::{StateDir, StateFile};
use crate::launch::VmLaunch;
use crate::lock::{self, LockState, VmLock};
use crate::status::{self, ConnectionCounts, VmPorts, VmState, VmStatus};
pub use crate::supervisor::protocol::STOP_LIMIT;
use crate::supervisor::protocol::{StartVerdict, SupervisorRequest, SupervisorResponse};
use crate::supervisor::{
    MachineRecord, SavedMemory, SupervisorError, last_lines, remove_runtime_files,
};

/// How long a supervisor may take to say how it is.
const STATUS_LIMIT: Duration = Duration::from_secs(5);
/// How long it may take for what needs QEMU.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// How long writing the guest's memory to a file may take.
const RELEASE_LIMIT: Duration = Duration::from_secs(3600);
/// How much longer than the guest a stop may take.
const STOP_MARGIN: Duration = Duration::from_secs(60);
/// How long a supervisor may be there without listening, at its start and at its end.
const SILENCE_LIMIT: Duration = Duration::from_millis(500);
/// How long a supervisor may take to end once its VM has.
const END_LIMIT: Duration = Duration::from_secs(10);
/// Lines of the log that go into an error.
const LOG_LINES: usize = 20;

/// Starts a VM: runs `program vm supervise --dir DIR`, which stays, and waits until the VM is up.
/// Paths of the launch, the directory and the program must be absolute. `sink` hears how the start goes.
///
/// # Errors
/// The VM did not start, or runs already; then nothing was changed.
pub fn start(
    program: &Path,
    dir: &StateDir,
    launch: &VmLaunch,
    sink: &dyn Sink,
) -> Result<VmStatus, SupervisorError> {
    // Before anything is started: what cannot be said must not be taken for an empty launch.
    let text = serde_json::to_vec(launch).map_err(encode("the launch"))?;
    dir.create()?;
    let log = dir.file(StateFile::SupervisorLog);
    let mut options = OpenOptions::new();
    let errors = options.append(true).create(true).mode(0o600).open(&log);
    let errors = errors.map_err(|source| SupervisorError::System {
        what: "open the supervisor's log",
        source,
    })?;
    let mut child = Command::new(program)
        .args(["vm", "supervise", "--dir"])
        .arg(dir.root())
        // The file system that the user stands on is not held for the life of the VM.
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .map_err(|source| SupervisorError::Spawn {
            program: program.to_owned(),
            source,
        })?;
    if let Some(mut pipe) = child.stdin.take() {
        // A supervisor that does not read it says why on its standard output.
        let _ = pipe.write_all(&text);
    }
    let verdict = child
        .stdout
        .take()
        .and_then(|pipe| read_verdict(pipe, sink));
    match verdict {
        Some(StartVerdict::Ready(status)) => {
            reap(child);
            Ok(*status)
        }
        Some(StartVerdict::Failed(failure)) => {
            // Only then it has let go of everything.
            let _ = child.wait();
            Err(SupervisorError::Refused(failure))
        }
        None => {
            let _ = child.wait();
            Err(SupervisorError::SupervisorGone {
                log: last_lines(&log, LOG_LINES),
            })
        }
    }
}

/// Passes events on until the last line.
fn read_verdict(pipe: impl Read, sink: &dyn Sink) -> Option<StartVerdict> {
    for line in BufReader::new(pipe).lines() {
        let line = line.ok()?;
        if let Ok(verdict) = serde_json::from_str(&line) {
            return Some(verdict);
        }
        if let Ok(event) = serde_json::from_str::<Event>(&line) {
            sink.emit(event);
        }
    }
    None
}

/// Waits for the supervisor in the background, so that a caller that lives long has no zombie.
fn reap(mut child: Child) {
    let thread = std::thread::Builder::new().name("supervisor".to_owned());
    let _ = thread.spawn(move || child.wait());
}

/// What the VM is doing, with or without a supervisor.
///
/// # Errors
/// There is a supervisor, and it does not answer.
pub fn status(dir: &StateDir) -> Result<VmStatus, SupervisorError> {
    let start = Instant::now();
    loop {
        match send_request(dir, &SupervisorRequest::Status {}, STATUS_LIMIT) {
            Ok(value) => {
                return serde_json::from_value(value).map_err(|source| SupervisorError::Protocol {
                    what: "the answer of the supervisor",
                    source,
                });
            }
            // It is ending: what is left then is the truth.
            Err(SupervisorError::Refused(_)) if start.elapsed() < END_LIMIT => {}
            Err(SupervisorError::NotRunning) => {
                let status = unsupervised(dir)?;
                // No supervisor listens yet, or any more: a moment later it is clear which.
                if status.state != VmState::Starting || start.elapsed() > SILENCE_LIMIT {
                    return Ok(status);
                }
            }
            Err(error) => return Err(error),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The status without a supervisor that listens.
fn unsupervised(dir: &StateDir) -> Result<VmStatus, SupervisorError> {
    let held = lock::state(dir)?;
    let record = MachineRecord::read(dir);
    let alive = record.as_ref().and_then(|record| record.process(dir));
    let saved = SavedMemory::read(dir).is_some();
    let (state, reason) = match (&held, &alive) {
        // A supervisor that does not listen yet, or a command that works on the disks.
        (LockState::HeldBy(holder), _) if holder.doing.ends_with("supervise") => {
            (VmState::Starting, Some("start".to_owned()))
        }
        (_, Some(_)) => (VmState::Unsupervised, None),
        (LockState::HeldBy(holder), None) => {
            let doing = format!("in use by `{}`", holder.doing);
            (VmState::Stopped, Some(doing))
        }
        // A supervisor that was killed may hold the lock for some moments more.
        (LockState::HeldByUnknown | LockState::Free, None) => {
            (VmState::Stopped, saved.then(|| "saved".to_owned()))
        }
    };
    let problem = match state {
        VmState::Unsupervised => {
            Some("its supervisor ended; `avocado vm start` takes the VM over".to_owned())
        }
        VmState::Stopped if saved => {
            Some("its memory is saved; `avocado vm start` brings it back".to_owned())
        }
        _ => None,
    };
    let record = record.filter(|_| state == VmState::Unsupervised);
    let image = record.as_ref().map(|record| &record.image);
    Ok(VmStatus {
        version: status::VERSION,
        running: state != VmState::Stopped,
        state,
        paused: (state == VmState::Stopped).then_some(false),
        reason,
        since: None,
        last_wake: None,
        pid: alive.as_ref().map(|identity| identity.pid),
        supervisor_pid: None,
        ports: VmPorts::default(),
        connections: ConnectionCounts::default(),
        keep_awakes: 0,
        idle_secs: None,
        accelerator: record
            .as_ref()
            .map(|record| record.spec.accelerator.name().to_owned()),
        cpu_ms: None,
        memory_bytes: None,
        platform: image.map(|image| image.platform.clone()),
        architecture: image.map(|image| image.architecture.clone()),
        image_version: image.and_then(|image| image.version.clone()),
        state_dir: dir.root().to_owned(),
        docker_socket: None,
        problem,
    })
}

/// Wakes the guest, and returns when it runs.
///
/// # Errors
/// There is no supervisor, or it could not.
pub fn wake(dir: &StateDir) -> Result<(), SupervisorError> {
    send_request(dir, &SupervisorRequest::Wake {}, COMMAND_LIMIT).map(drop)
}

/// Pauses the guest as soon as its connections are quiet.
///
/// # Errors
/// There is no supervisor, or the guest is in use.
pub fn hibernate(dir: &StateDir) -> Result<(), SupervisorError> {
    send_request(dir, &SupervisorRequest::Hibernate {}, COMMAND_LIMIT).map(drop)
}

/// Wakes the guest, and keeps it awake until the value is dropped.
///
/// # Errors
/// There is no supervisor, or the guest could not be woken.
pub fn keep_awake(dir: &StateDir) -> Result<KeepAwake, SupervisorError> {
    let mut stream = connect(dir)?;
    exchange(&mut stream, &SupervisorRequest::KeepAwake {}, COMMAND_LIMIT)?;
    Ok(KeepAwake(stream))
}

/// A guest that is kept awake.
#[derive(Debug)]
pub struct KeepAwake(UnixStream);

impl KeepAwake {
    /// Returns after `limit` with true, or before with false: the supervisor ended, and keeps
    /// nothing awake any more. Without a limit it waits for that.
    ///
    /// # Errors
    /// The connection to the supervisor cannot be used.
    pub fn lasts(&self, limit: Option<Duration>) -> Result<bool, SupervisorError> {
        let start = Instant::now();
        let mut stream = &self.0;
        loop {
            let left = limit.map(|limit| limit.saturating_sub(start.elapsed()));
            if left == Some(Duration::ZERO) {
                return Ok(true);
            }
            let read = stream
                .set_read_timeout(left)
                .and_then(|()| stream.read(&mut [0; 64]));
            match read {
                Ok(0) => return Ok(false),
                // It has nothing to say by itself.
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset => return Ok(false),
                    _ => return Err(SupervisorError::NoAnswer(error)),
                },
            }
        }
    }
}

/// Gives the guest's memory back to the host: it is saved, and QEMU ends.
///
/// # Errors
/// There is no supervisor, connections are open, or the memory could not be saved.
pub fn release(dir: &StateDir) -> Result<(), SupervisorError> {
    send_request(dir, &SupervisorRequest::Release {}, RELEASE_LIMIT).map(drop)
}

/// Stops the VM: the guest powers off, or is ended with `force`. Returns when nothing of it is
/// left, with whether there was one. `program` is needed for a VM that lost its supervisor, also
/// one whose memory is saved: it gets one to stop it properly.
///
/// # Errors
/// The guest does not power off within `limit`; the VM then goes on.
pub fn stop(
    program: &Path,
    dir: &StateDir,
    force: bool,
    limit: Duration,
) -> Result<bool, SupervisorError> {
    let request = SupervisorRequest::Stop {
        force,
        timeout_secs: Some(limit.as_secs()),
    };
    match send_request(dir, &request, limit + STOP_MARGIN) {
        Ok(_) => {}
        Err(SupervisorError::NotRunning) => {
            let status = unsupervised(dir)?;
            match (status.state, MachineRecord::read(dir)) {
                (VmState::Unsupervised, Some(record)) => {
                    start(program, dir, &record.launch, &avocado_events::Silent)?;
                    send_request(dir, &request, limit + STOP_MARGIN)?;
                }
                (VmState::Stopped, _) => match saved_launch(dir).filter(|_| !force) {
                    // What is open in it ends as it should.
                    Some(launch) => {
                        start(program, dir, &launch, &avocado_events::Silent)?;
                        send_request(dir, &request, limit + STOP_MARGIN)?;
                    }
                    None => return Ok(false),
                },
                _ => return Err(SupervisorError::NotRunning),
            }
        }
        Err(error) => return Err(error),
    }
    let start = Instant::now();
    while lock::state(dir)? != LockState::Free {
        if start.elapsed() > END_LIMIT {
            let late = io::Error::from(io::ErrorKind::TimedOut);
            return Err(SupervisorError::NoAnswer(late));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}

/// Removes the saved memory of a VM that is stopped. Returns whether there was any.
///
/// # Errors
/// The VM runs, or its directory is in use.
pub fn give_up_saved(dir: &StateDir) -> Result<bool, SupervisorError> {
    if SavedMemory::read(dir).is_none() {
        return Ok(false);
    }
    let _lock = VmLock::take(dir, "avocado vm stop --force")?;
    SavedMemory::discard(dir)?;
    remove_runtime_files(dir, false);
    Ok(true)
}

/// How a VM was started whose memory is saved and which has no supervisor.
pub fn saved_launch(dir: &StateDir) -> Option<VmLaunch> {
    SavedMemory::read(dir).map(|saved| saved.record.launch)
}

/// For `map_err`: what could not be put into JSON.
fn encode(what: &'static str) -> impl FnOnce(serde_json::Error) -> SupervisorError {
    move |source| SupervisorError::Encode { what, source }
}

/// One request, one answer.
fn send_request(
    dir: &StateDir,
    request: &SupervisorRequest,
    limit: Duration,
) -> Result<Value, SupervisorError> {
    exchange(&mut connect(dir)?, request, limit)
}

fn connect(dir: &StateDir) -> Result<UnixStream, SupervisorError> {
    UnixStream::connect(dir.file(StateFile::Supervisor)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => SupervisorError::NotRunning,
        _ => SupervisorError::NoAnswer(error),
    })
}

/// One request over a connection, one answer.
fn exchange(
    stream: &mut UnixStream,
    request: &SupervisorRequest,
    limit: Duration,
) -> Result<Value, SupervisorError> {
    let mut line = serde_json::to_vec(request).map_err(encode("the request"))?;
    line.push(b'\n');
    let mut answer = String::new();
    let mut exchange = || {
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(STATUS_LIMIT))?;
        stream.write_all(&line)?;
        BufReader::new(&*stream).read_line(&mut answer)
    };
    match exchange() {
        // It ended in this moment.
        Ok(0) => return Err(SupervisorError::NotRunning),
        Ok(_) => {}
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ) =>
        {
            return Err(SupervisorError::NotRunning);
        }
        Err(error) => return Err(SupervisorError::NoAnswer(error)),
    }
    match serde_json::from_str(&answer) {
        Ok(SupervisorResponse::Result(value)) => Ok(value),
        Ok(SupervisorResponse::Error(failure)) => Err(SupervisorError::Refused(failure)),
        Err(source) => Err(SupervisorError::Protocol {
            what: "the answer of the supervisor",
            source,
        }),
    }
}
