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

use crate::dir::{File, StateDir};
use crate::launch::Launch;
use crate::lock::{self, Lock};
use crate::status::{self, Connections, Ports, State, Status};
use crate::supervisor::wire::{Request, Response, Verdict};
use crate::supervisor::{Error, Record, Saved, last_lines, tidy};

/// How long a supervisor may take to say how it is.
const STATUS: Duration = Duration::from_secs(5);
/// How long it may take for what needs QEMU.
const COMMAND: Duration = Duration::from_secs(120);
/// How long writing the guest's memory to a file may take.
const RELEASE: Duration = Duration::from_secs(3600);
/// How much longer than the guest a stop may take.
const MARGIN: Duration = Duration::from_secs(60);
/// How long the guest may take to power off, unless the caller says otherwise: longer than systemd
/// waits for a service that does not end.
pub const STOP_LIMIT: Duration = Duration::from_secs(120);
/// How long a supervisor may be there without listening, at its start and at its end.
const GLANCE: Duration = Duration::from_millis(500);
/// How long a supervisor may take to end once its VM has.
const END: Duration = Duration::from_secs(10);
/// Lines of the log that go into an error.
const LOG: usize = 20;

/// Starts a VM: runs `program vm supervise --dir DIR`, which stays, and waits until the VM is up.
/// Paths of the launch, the directory and the program must be absolute. `sink` hears how the start goes.
///
/// # Errors
/// The VM did not start, or runs already; then nothing was changed.
pub fn start(
    program: &Path,
    dir: &StateDir,
    launch: &Launch,
    sink: &dyn Sink,
) -> Result<Status, Error> {
    dir.create()?;
    let log = dir.file(File::SupervisorLog);
    let mut options = OpenOptions::new();
    let errors = options.append(true).create(true).mode(0o600).open(&log);
    let errors = errors.map_err(|source| Error::System {
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
        .map_err(|source| Error::Spawn {
            program: program.to_owned(),
            source,
        })?;
    if let Some(mut pipe) = child.stdin.take() {
        let text = serde_json::to_vec(launch).unwrap_or_default();
        // One that does not read it says why.
        let _ = pipe.write_all(&text);
    }
    let verdict = child.stdout.take().and_then(|pipe| listen(pipe, sink));
    match verdict {
        Some(Verdict::Ready(status)) => {
            reap(child);
            Ok(*status)
        }
        Some(Verdict::Failed(failure)) => {
            // Only then it has let go of everything.
            let _ = child.wait();
            Err(Error::Refused(failure))
        }
        None => {
            let _ = child.wait();
            Err(Error::SupervisorGone {
                log: last_lines(&log, LOG),
            })
        }
    }
}

/// Passes events on until the last line.
fn listen(pipe: impl Read, sink: &dyn Sink) -> Option<Verdict> {
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

/// What the VM is doing, whoever looks after it.
///
/// # Errors
/// There is a supervisor, and it does not answer.
pub fn status(dir: &StateDir) -> Result<Status, Error> {
    let start = Instant::now();
    loop {
        match ask(dir, &Request::Status {}, STATUS) {
            Ok(value) => {
                return serde_json::from_value(value).map_err(|source| Error::Protocol {
                    what: "the answer of the supervisor",
                    source,
                });
            }
            // It is ending: what is left then is the truth.
            Err(Error::Refused(_)) if start.elapsed() < END => {}
            Err(Error::NotRunning) => {
                let status = unsupervised(dir)?;
                // Nobody listens yet, or any more: a moment later it is clear which.
                if status.state != State::Starting || start.elapsed() > GLANCE {
                    return Ok(status);
                }
            }
            Err(error) => return Err(error),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The status without a supervisor that listens.
fn unsupervised(dir: &StateDir) -> Result<Status, Error> {
    let held = lock::holder(dir)?;
    let record = Record::read(dir);
    let alive = record.as_ref().and_then(|record| record.process(dir));
    let saved = Saved::read(dir).is_some();
    let (state, reason) = match (&held, &alive) {
        // A supervisor that does not listen yet, or a command that works on the disks.
        (Some(Some(holder)), _) if holder.doing.ends_with("supervise") => {
            (State::Starting, Some("start".to_owned()))
        }
        (_, Some(_)) => (State::Unsupervised, None),
        (Some(Some(holder)), None) => {
            let doing = format!("in use by `{}`", holder.doing);
            (State::Stopped, Some(doing))
        }
        // A supervisor that was killed may hold the lock for some moments more.
        (Some(None) | None, None) => (State::Stopped, saved.then(|| "saved".to_owned())),
    };
    let problem = match state {
        State::Unsupervised => {
            Some("its supervisor ended; `avocado vm start` takes the VM over".to_owned())
        }
        State::Stopped if saved => {
            Some("its memory is saved; `avocado vm start` brings it back".to_owned())
        }
        _ => None,
    };
    let record = record.filter(|_| state == State::Unsupervised);
    let image = record.as_ref().map(|record| &record.image);
    Ok(Status {
        version: status::VERSION,
        running: state != State::Stopped,
        state,
        paused: (state == State::Stopped).then_some(false),
        reason,
        since: None,
        last_wake: None,
        pid: alive.as_ref().map(|identity| identity.pid),
        supervisor_pid: None,
        ports: Ports::default(),
        connections: Connections::default(),
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
pub fn wake(dir: &StateDir) -> Result<(), Error> {
    ask(dir, &Request::Wake {}, COMMAND).map(drop)
}

/// Pauses the guest as soon as its connections are quiet.
///
/// # Errors
/// There is no supervisor, or the guest is in use.
pub fn hibernate(dir: &StateDir) -> Result<(), Error> {
    ask(dir, &Request::Hibernate {}, COMMAND).map(drop)
}

/// Gives the guest's memory back to the host: it is saved, and QEMU ends.
///
/// # Errors
/// There is no supervisor, connections are open, or the memory could not be saved.
pub fn release(dir: &StateDir) -> Result<(), Error> {
    ask(dir, &Request::Release {}, RELEASE).map(drop)
}

/// Stops the VM: the guest powers off, or is ended with `force`. Returns when nothing of it is
/// left, with whether there was one. `program` is needed for a VM that lost its supervisor, also
/// one whose memory is saved: it gets one to stop it properly.
///
/// # Errors
/// The guest does not power off within `limit`; the VM then goes on.
pub fn stop(program: &Path, dir: &StateDir, force: bool, limit: Duration) -> Result<bool, Error> {
    let request = Request::Stop {
        force,
        timeout_secs: Some(limit.as_secs()),
    };
    match ask(dir, &request, limit + MARGIN) {
        Ok(_) => {}
        Err(Error::NotRunning) => {
            let status = unsupervised(dir)?;
            match (status.state, Record::read(dir)) {
                (State::Unsupervised, Some(record)) => {
                    start(program, dir, &record.launch, &avocado_events::Silent)?;
                    ask(dir, &request, limit + MARGIN)?;
                }
                (State::Stopped, _) => match saved_launch(dir).filter(|_| !force) {
                    // What is open in it ends as it should.
                    Some(launch) => {
                        start(program, dir, &launch, &avocado_events::Silent)?;
                        ask(dir, &request, limit + MARGIN)?;
                    }
                    None => return Ok(false),
                },
                _ => return Err(Error::NotRunning),
            }
        }
        Err(error) => return Err(error),
    }
    let start = Instant::now();
    while lock::holder(dir)?.is_some() {
        if start.elapsed() > END {
            let late = io::Error::from(io::ErrorKind::TimedOut);
            return Err(Error::NoAnswer(late));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}

/// Removes the saved memory of a VM that is stopped. Returns whether there was any.
///
/// # Errors
/// The VM runs, or its directory is in use.
pub fn give_up_saved(dir: &StateDir) -> Result<bool, Error> {
    if Saved::read(dir).is_none() {
        return Ok(false);
    }
    let _lock = Lock::take(dir, "avocado vm stop --force")?;
    Saved::discard(dir)?;
    tidy(dir, false);
    Ok(true)
}

/// How a VM was started whose memory is saved and which has no supervisor.
pub fn saved_launch(dir: &StateDir) -> Option<Launch> {
    Saved::read(dir).map(|saved| saved.record.launch)
}

/// One request, one answer.
fn ask(dir: &StateDir, request: &Request, limit: Duration) -> Result<Value, Error> {
    let path = dir.file(File::Supervisor);
    let mut stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Err(Error::NotRunning);
        }
        Err(error) => return Err(Error::NoAnswer(error)),
    };
    let mut line = serde_json::to_vec(request).unwrap_or_default();
    line.push(b'\n');
    let mut answer = String::new();
    let mut talk = || {
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(STATUS))?;
        stream.write_all(&line)?;
        BufReader::new(&stream).read_line(&mut answer)
    };
    match talk() {
        // It ended in this moment.
        Ok(0) => return Err(Error::NotRunning),
        Ok(_) => {}
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ) =>
        {
            return Err(Error::NotRunning);
        }
        Err(error) => return Err(Error::NoAnswer(error)),
    }
    match serde_json::from_str(&answer) {
        Ok(Response::Result(value)) => Ok(value),
        Ok(Response::Error(failure)) => Err(Error::Refused(failure)),
        Err(source) => Err(Error::Protocol {
            what: "the answer of the supervisor",
            source,
        }),
    }
}
