//! What the VM is doing, told by its supervisor, or found out without it.

use std::time::{Duration, Instant};

use super::END_LIMIT;
use super::request::{ANSWER_LIMIT, send_request};
use crate::dir::{StateDir, StateFile};
use crate::lock::{self, LockHolder, LockState};
use crate::status::{self, ConnectionCounts, VmPorts, VmState, VmStatus};
use crate::supervisor::protocol::SupervisorRequest;
use crate::supervisor::{MachineRecord, SavedMemory, SupervisorError};

/// How long a supervisor may be there without listening, at its start and at its end.
const SILENCE_LIMIT: Duration = Duration::from_millis(500);

/// What the VM is doing, with or without a supervisor, also one that does not answer.
///
/// # Errors
/// The state directory cannot be read, or what the supervisor says is not understood.
pub fn status(dir: &StateDir) -> Result<VmStatus, SupervisorError> {
    let start = Instant::now();
    loop {
        match send_request(dir, &SupervisorRequest::Status {}, ANSWER_LIMIT) {
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
            Err(SupervisorError::NoAnswer(_)) => return unresponsive(dir),
            Err(error) => return Err(error),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The supervisor that has the lock, if one has.
pub(super) fn lock_holder(dir: &StateDir) -> Result<Option<LockHolder>, SupervisorError> {
    Ok(match lock::state(dir)? {
        LockState::HeldBy(holder) if is_supervisor(&holder) => Some(holder),
        _ => None,
    })
}

fn is_supervisor(holder: &LockHolder) -> bool {
    holder.doing.ends_with("supervise")
}

/// The status beside a supervisor that does not answer: what the files say, and nothing of what only
/// it knows.
fn unresponsive(dir: &StateDir) -> Result<VmStatus, SupervisorError> {
    let supervisor = lock_holder(dir)?.map(|holder| holder.process.pid);
    let record = MachineRecord::read(dir);
    let pid = record.as_ref().and_then(|record| record.process(dir));
    let port = |file| dir.read_line(file)?.parse().ok();
    let process = supervisor.map(|pid| format!(" (process {pid})"));
    let problem = format!(
        "its supervisor{} does not answer; `avocado vm stop --force` ends the VM. Or end the \
         supervisor alone: the guest goes on, and `avocado vm start` takes it over",
        process.unwrap_or_default()
    );
    Ok(VmStatus {
        running: true,
        paused: None,
        reason: Some("no_answer".to_owned()),
        pid: pid.map(|identity| identity.pid),
        supervisor_pid: supervisor,
        ports: VmPorts {
            ssh: port(StateFile::SshPort),
            internal_ssh: port(StateFile::InternalSshPort),
            infra_ssh: port(StateFile::InfraSshPort),
        },
        problem: Some(problem),
        ..of_record(dir, VmState::Unresponsive, record.as_ref())
    })
}

/// The status without a supervisor that listens.
pub(super) fn unsupervised(dir: &StateDir) -> Result<VmStatus, SupervisorError> {
    let held = lock::state(dir)?;
    let record = MachineRecord::read(dir);
    let alive = record.as_ref().and_then(|record| record.process(dir));
    let memory = SavedMemory::read(dir);
    let saved = memory.is_some();
    let (state, reason) = match (&held, &alive) {
        // A supervisor that does not listen yet, or a command that works on the disks.
        (LockState::HeldBy(holder), _) if is_supervisor(holder) => {
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
            let unfit = memory.as_ref().and_then(SavedMemory::problem);
            let fits = || "its memory is saved; `avocado vm start` brings it back".to_owned();
            Some(unfit.unwrap_or_else(fits))
        }
        _ => None,
    };
    let record = record.filter(|_| state == VmState::Unsupervised);
    Ok(VmStatus {
        paused: (state == VmState::Stopped).then_some(false),
        reason,
        pid: alive.as_ref().map(|identity| identity.pid),
        problem,
        ..of_record(dir, state, record.as_ref())
    })
}

/// What is known of a VM from its record alone.
fn of_record(dir: &StateDir, state: VmState, record: Option<&MachineRecord>) -> VmStatus {
    let image = record.map(|record| &record.image);
    VmStatus {
        version: status::VERSION,
        running: state != VmState::Stopped,
        state,
        paused: None,
        reason: None,
        since: None,
        last_wake: None,
        pid: None,
        supervisor_pid: None,
        ports: VmPorts::default(),
        forwards: Vec::new(),
        connections: ConnectionCounts::default(),
        work: None,
        keep_awakes: 0,
        idle_secs: None,
        accelerator: record.map(|record| record.spec.accelerator.name().to_owned()),
        cpu_ms: None,
        memory_bytes: None,
        platform: image.map(|image| image.platform.clone()),
        architecture: image.map(|image| image.architecture.clone()),
        image_version: image.and_then(|image| image.version.clone()),
        state_dir: dir.root().to_owned(),
        docker_socket: None,
        problem: None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::lock::VmLock;

    // What is promised for `vm status`, with some room for the rest.
    const _: () = assert!(ANSWER_LIMIT.as_secs() < 5);

    #[test]
    fn a_supervisor_that_hangs_is_told_with_what_to_do() {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path());
        let _lock = VmLock::take(&dir, "avocado vm supervise").unwrap();
        dir.write(StateFile::SshPort, b"2222").unwrap();
        // It listens, and does nothing about it.
        let _listener = UnixListener::bind(dir.file(StateFile::Supervisor)).unwrap();
        let status = status(&dir).unwrap();
        let me = Some(std::process::id());
        assert_eq!((status.running, status.paused), (true, None));
        assert_eq!(
            (status.state, status.reason.as_deref()),
            (VmState::Unresponsive, Some("no_answer"))
        );
        assert_eq!((status.supervisor_pid, status.ports.ssh), (me, Some(2222)));
        let problem = status.problem.unwrap();
        assert!(problem.contains("`avocado vm stop --force`"), "{problem}");
    }
}
