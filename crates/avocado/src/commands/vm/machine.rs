//! The VM as the other commands see it: what it does, starting it, stopping it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use avocado_events::{Event, Sink};
use avocado_vm::dir::{StateDir, StateFile};
use avocado_vm::launch::VmLaunch;
use avocado_vm::status::{VmState, VmStatus};
use avocado_vm::{control, lock, named, supervisor};

use super::start_args::StartArgs;
use super::{failure, launch};
use crate::failure::{Failure, Result};
use crate::interrupt::on_interrupt;
use crate::session::Session;

/// The status of a VM that is stopped, or whose supervisor answers.
pub(super) fn status(dir: &StateDir) -> Result<VmStatus> {
    let status = look(dir)?;
    if status.state == VmState::Unresponsive {
        let late = std::io::ErrorKind::TimedOut.into();
        return Err(refused(&supervisor::SupervisorError::NoAnswer(late)));
    }
    Ok(status)
}

/// The status, whatever it is.
pub(super) fn look(dir: &StateDir) -> Result<VmStatus> {
    dir.check_sockets().map_err(failure)?;
    control::status(dir).map_err(|error| refused(&error))
}

/// The status of a VM that runs and has a supervisor; without one it cannot be asked for anything.
pub(super) fn supervised(dir: &StateDir) -> Result<VmStatus> {
    match status(dir)? {
        status if status.state == VmState::Unsupervised => {
            Err(Failure::new("the VM has lost its supervisor")
                .hint("`avocado vm start` takes the VM over"))
        }
        status if status.running => Ok(status),
        _ => Err(not_running()),
    }
}

pub(super) fn not_running() -> Failure {
    refused(&supervisor::SupervisorError::NotRunning)
}

/// Whether the guest's memory is in a file, for the next start.
pub(super) fn is_saved(dir: &StateDir) -> bool {
    control::saved_launch(dir).is_some()
}

/// Starts the VM, and remembers how, for those who start it again. Ctrl-C ends the attempt.
pub(super) fn start(session: &Session, dir: &StateDir, launch: &VmLaunch) -> Result<VmStatus> {
    let program = session.environment.exe()?;
    let started = control::start(&program, dir, launch, &*session.output);
    let status = started.map_err(|error| refused(&error))?;
    // With the port that it got, for the next start to have the same.
    let kept = VmLaunch {
        last_ssh_port: status.ports.ssh,
        ..launch.clone()
    };
    dir.write_json(StateFile::Launch, &kept).map_err(failure)?;
    Ok(status)
}

/// What a Ctrl-C does while the VM starts, and while a user stays with it.
pub(super) struct InterruptStop {
    up: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
}

impl InterruptStop {
    /// From now on Ctrl-C stops the VM: without asking the guest as long as it is not `up`.
    pub(super) fn new(session: &Session, dir: &StateDir, up: bool) -> Result<Self> {
        let (up, asked) = (Arc::new(AtomicBool::new(up)), Arc::<AtomicBool>::default());
        let attended = InterruptStop {
            up: up.clone(),
            asked: asked.clone(),
        };
        let program = session.environment.exe()?;
        let (dir, output) = (dir.clone(), session.output.clone());
        on_interrupt(&session.output, move || {
            asked.store(true, Ordering::SeqCst);
            let (program, dir, output) = (program.clone(), dir.clone(), output.clone());
            let force = !up.load(Ordering::SeqCst);
            // Apart, so that a second Ctrl-C is noticed.
            std::thread::spawn(move || {
                let stopped = control::stop(&program, &dir, force, control::STOP_LIMIT);
                if let Err(error) = stopped {
                    output.emit(Event::warning(error.to_string()));
                }
            });
        })?;
        Ok(attended)
    }

    /// The guest is up: from now on it is asked.
    pub(super) fn is_up(&self) {
        self.up.store(true, Ordering::SeqCst);
    }

    /// Whether Ctrl-C was pressed.
    pub(super) fn interrupted(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Returns when the VM has ended.
pub(super) fn stay(dir: &StateDir) -> Result<()> {
    lock::wait(dir).map_err(failure)
}

/// Stops the VM. Says whether there was one.
pub(super) fn stop(
    session: &Session,
    dir: &StateDir,
    force: bool,
    limit: Option<Duration>,
) -> Result<bool> {
    let program = session.environment.exe()?;
    let limit = limit.unwrap_or(control::STOP_LIMIT);
    control::stop(&program, dir, force, limit).map_err(|error| refused(&error))
}

/// Stops a VM that runs, for a change. Says whether it ran.
pub(super) fn stop_for(session: &Session, dir: &StateDir) -> Result<bool> {
    if !status(dir)?.running {
        return Ok(false);
    }
    session.output.emit(Event::info("stopping the VM"));
    stop(session, dir, false, None)
}

/// Starts the VM as it was started before.
pub(super) fn start_again(session: &Session, dir: &StateDir) -> Result<()> {
    session.output.emit(Event::info("starting the VM again"));
    let launch = match previous(dir) {
        Some(launch) => launch,
        None => launch::resolve(session, dir, &StartArgs::default())?,
    };
    start(session, dir, &launch).map(drop)
}

/// How the VM was last started.
pub(super) fn previous(dir: &StateDir) -> Option<VmLaunch> {
    named::last_launch(dir)
}

pub(super) fn refused(error: &supervisor::SupervisorError) -> Failure {
    let mut failure = match error {
        supervisor::SupervisorError::Refused(said) => {
            let mut failure = Failure::new(&said.message);
            failure.causes.clone_from(&said.causes);
            failure
        }
        error => Failure::from_error(error),
    };
    failure.hint = error.hint();
    failure
}
