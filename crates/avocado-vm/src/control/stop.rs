//! Stopping a VM: by its supervisor, or by force where that does not answer.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use avocado_qemu::ProcessIdentity;
use rustix::process::{Pid, Signal, kill_process};

use super::request::{ask, send_request};
use super::status::{lock_holder, unsupervised};
use super::{END_LIMIT, saved_launch, start};
use crate::VmError;
use crate::dir::{StateDir, StateFile};
use crate::lock::{self, LockState, VmLock};
use crate::status::VmState;
use crate::supervisor::protocol::SupervisorRequest;
use crate::supervisor::{
    MachineRecord, SavedMemory, SupervisorError, SupervisorLog, end_orphan, remove_runtime_files,
};

/// How much longer than the guest a stop may take.
const STOP_MARGIN: Duration = Duration::from_secs(60);
/// How long a supervisor may take to end QEMU without asking the guest: longer than it waits for
/// QEMU itself.
const FORCE_LIMIT: Duration = Duration::from_secs(7);
/// How long its processes may take to end that are killed.
const KILL_LIMIT: Duration = Duration::from_millis(2500);
/// How often it is looked for the end of a process.
const POLL: Duration = Duration::from_millis(5);

/// Stops the VM: the guest powers off, or is ended with `force`. Returns when nothing of it is
/// left, with whether there was one. `program` is needed for a VM that lost its supervisor, also
/// one whose memory is saved: it gets one to stop it properly.
///
/// With `force` a supervisor that does not answer is ended as well, and no `limit` counts but that
/// of a force stop, ten seconds.
///
/// # Errors
/// The guest does not power off within `limit`; the VM then goes on. With `force`: a process of the
/// VM does not end although it was killed.
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
    if force {
        return stop_by_force(dir, &request);
    }
    match ask(dir, &request, limit + STOP_MARGIN) {
        Ok(_) => {}
        Err(SupervisorError::NotRunning) => {
            let status = unsupervised(dir)?;
            let launch = match (status.state, MachineRecord::read(dir)) {
                (VmState::Unsupervised, Some(record)) => record.launch,
                // What is open in it ends as it should.
                (VmState::Stopped, _) => match saved_launch(dir) {
                    Some(launch) => launch,
                    None => return Ok(false),
                },
                _ => return Err(SupervisorError::NotRunning),
            };
            start(program, dir, &launch, &avocado_events::Silent)?;
            send_request(dir, &request, limit + STOP_MARGIN)?;
        }
        Err(error) => return Err(error),
    }
    if is_free_by(dir, Instant::now() + END_LIMIT)? {
        Ok(true)
    } else {
        Err(late())
    }
}

fn late() -> SupervisorError {
    SupervisorError::NoAnswer(io::ErrorKind::TimedOut.into())
}

/// Waits until no process has the lock. Says whether that was before the deadline.
fn is_free_by(dir: &StateDir, deadline: Instant) -> Result<bool, SupervisorError> {
    while lock::state(dir)? != LockState::Free {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
    Ok(true)
}

/// Ends the VM without asking the guest, and without its supervisor if that does not answer.
fn stop_by_force(dir: &StateDir, request: &SupervisorRequest) -> Result<bool, SupervisorError> {
    let asked_by = Instant::now() + FORCE_LIMIT;
    match send_request(dir, request, FORCE_LIMIT) {
        Ok(_) if is_free_by(dir, asked_by)? => return Ok(true),
        Ok(_) | Err(SupervisorError::NoAnswer(_)) => {}
        Err(SupervisorError::NotRunning) => match unsupervised(dir)?.state {
            VmState::Unsupervised => {}
            VmState::Stopped => return Ok(false),
            _ => return Err(SupervisorError::NotRunning),
        },
        Err(error) => return Err(error),
    }
    kill_vm(dir, Instant::now() + KILL_LIMIT)?;
    Ok(true)
}

/// Kills what there is of a VM: first its supervisor, so that it cannot do anything about the rest.
fn kill_vm(dir: &StateDir, deadline: Instant) -> Result<(), SupervisorError> {
    if let Some(supervisor) = lock_holder(dir)? {
        kill(&supervisor.process);
    }
    let _lock = loop {
        match VmLock::take(dir, "avocado vm stop --force") {
            Ok(lock) => break lock,
            Err(VmError::Busy { .. }) if Instant::now() < deadline => std::thread::sleep(POLL),
            Err(VmError::Busy { .. }) => return Err(late()),
            Err(error) => return Err(error.into()),
        }
    };
    if let Some(record) = MachineRecord::read(dir) {
        if let Some(tunnel) = &record.tunnel {
            end_orphan(tunnel);
        }
        if let Some(qemu) = record.process(dir) {
            kill(&qemu);
            while qemu.is_alive() {
                if Instant::now() > deadline {
                    return Err(late());
                }
                std::thread::sleep(POLL);
            }
        }
    }
    remove_runtime_files(dir, false);
    let log = SupervisorLog::open(&dir.file(StateFile::SupervisorLog));
    log.line("the VM was ended by force, without its supervisor");
    Ok(())
}

fn kill(process: &ProcessIdentity) {
    if process.is_alive()
        && let Some(pid) = Pid::from_raw(process.pid.cast_signed())
    {
        // One that has just ended is none to be killed.
        let _ = kill_process(pid, Signal::KILL);
    }
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Command};

    use super::*;

    // What is promised for a stop by force.
    const _: () = assert!(FORCE_LIMIT.as_millis() + KILL_LIMIT.as_millis() < 10_000);

    fn sleeper() -> (Child, ProcessIdentity) {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let identity = ProcessIdentity::of(child.id()).unwrap();
        (child, identity)
    }

    #[test]
    fn a_hung_supervisor_and_its_machine_are_ended_by_force() {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path());
        let (mut qemu, identity) = sleeper();
        let record = crate::supervisor::test_record(identity);
        record.write(&dir).unwrap();
        let program = Path::new("/does/not/exist");
        // Without a supervisor.
        assert!(stop(program, &dir, true, Duration::ZERO).unwrap());
        qemu.wait().unwrap();
        assert!(!dir.file(StateFile::Machine).exists());
        assert!(!stop(program, &dir, true, Duration::ZERO).unwrap());

        // One that listens and does nothing. It does not even have the lock.
        let (mut qemu, identity) = sleeper();
        let record = crate::supervisor::test_record(identity);
        record.write(&dir).unwrap();
        let listener = UnixListener::bind(dir.file(StateFile::Supervisor)).unwrap();
        let error = stop(program, &dir, false, Duration::ZERO).unwrap_err();
        assert!(error.hint().unwrap().contains("--force"), "{error}");
        assert!(stop(program, &dir, true, Duration::ZERO).unwrap());
        qemu.wait().unwrap();
        assert!(!dir.file(StateFile::Supervisor).exists());
        drop(listener);
    }
}
