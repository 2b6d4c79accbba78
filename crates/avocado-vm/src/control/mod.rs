//! Talking to a VM from outside: starting its supervisor, and asking it. `request` is the way to
//! the supervisor, `held_request` are those that last, `status` and `stop` are the two that also work without one that answers.

mod held_request;
mod request;
mod status;
mod stop;

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use avocado_events::{Event, Sink};

use crate::dir::{StateDir, StateFile};
use crate::launch::{IdleChange, VmLaunch};
use crate::status::VmStatus;
pub use crate::supervisor::protocol::{STOP_LIMIT, WantedForward};
use crate::supervisor::protocol::{StartVerdict, SupervisorRequest};
use crate::supervisor::{SavedMemory, SupervisorError, last_lines};

pub use held_request::{HeldRequest, forward, keep_awake};
use request::{ask, encode};
pub use status::status;
pub use stop::{give_up_saved, stop};

/// How long a supervisor may take for what needs QEMU.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// How long writing the guest's memory to a file may take.
const RELEASE_LIMIT: Duration = Duration::from_secs(3600);
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

/// Wakes the guest, and returns when it runs.
///
/// # Errors
/// There is no supervisor, or it could not.
pub fn wake(dir: &StateDir) -> Result<(), SupervisorError> {
    ask(dir, &SupervisorRequest::Wake {}, COMMAND_LIMIT).map(drop)
}

/// Lets the guest of a running VM sleep by other settings from now on.
///
/// # Errors
/// There is no supervisor, or it does not answer.
pub fn configure(dir: &StateDir, idle: &IdleChange) -> Result<(), SupervisorError> {
    let idle = idle.clone();
    ask(dir, &SupervisorRequest::Configure { idle }, COMMAND_LIMIT).map(drop)
}

/// Pauses the guest as soon as its connections are quiet.
///
/// # Errors
/// There is no supervisor, or the guest is in use.
pub fn hibernate(dir: &StateDir) -> Result<(), SupervisorError> {
    ask(dir, &SupervisorRequest::Hibernate {}, COMMAND_LIMIT).map(drop)
}

/// Gives the guest's memory back to the host: it is saved, and QEMU ends.
///
/// # Errors
/// There is no supervisor, connections are open, or the memory could not be saved.
pub fn release(dir: &StateDir) -> Result<(), SupervisorError> {
    ask(dir, &SupervisorRequest::Release {}, RELEASE_LIMIT).map(drop)
}

/// How a VM was started whose memory is saved and which has no supervisor.
pub fn saved_launch(dir: &StateDir) -> Option<VmLaunch> {
    SavedMemory::read(dir).map(|saved| saved.record.launch)
}
