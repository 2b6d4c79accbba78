//! A running machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use crate::error::QemuError;
use crate::events::{self, MachineEvents};
use crate::exit_status::ExitStatus;
use crate::guest_agent::GuestAgent;
use crate::process::{self, KillOnDrop, Process, ProcessIdentity, ProcessUsage, log_tail};
use crate::qmp::{QmpClient, QmpNotification};
use crate::spec::MachineSpec;

/// What a machine is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// The guest runs.
    Running,
    /// The guest stands still, and can be resumed.
    Paused,
    /// Anything else, in QEMU's word.
    Other(String),
}

/// A QEMU process; a cloneable handle. Dropping it ends nothing, see [the crate](crate).
#[derive(Debug, Clone)]
pub struct Machine {
    pub(crate) qmp: QmpClient,
    pub(crate) process: Process,
    agent: GuestAgent,
    error_log: Arc<Path>,
    /// Held while memory is saved: a guest must not be resumed in the middle of that.
    pub(crate) memory_lock: Arc<Mutex<()>>,
}

/// QEMU's word for a guest that stands still since its memory was saved.
const SAVED: &str = "postmigrate";
/// And for one that stands still because a disk could not be read or written.
const DISK_ERROR: &str = "io-error";

/// For answers that QEMU gives after it has finished with its disks.
pub(crate) const DISK_ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// For answers that QEMU knows.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(5);

impl Machine {
    pub(crate) fn new(
        spec: &MachineSpec,
        process: Process,
        qmp: QmpClient,
        notifications: mpsc::UnboundedReceiver<QmpNotification>,
    ) -> (Machine, MachineEvents) {
        let error_log: Arc<Path> = spec.error_log.as_path().into();
        let events = events::forward(notifications, process.clone(), error_log.clone());
        let machine = Machine {
            qmp,
            process,
            agent: GuestAgent::new(&spec.sockets.agent),
            error_log,
            memory_lock: Arc::default(),
        };
        (machine, events)
    }

    /// Which process it is; to be kept for [`crate::adopt_machine`].
    pub fn identity(&self) -> ProcessIdentity {
        self.process.identity.clone()
    }

    /// What it is doing, asked of QEMU.
    pub async fn run_state(&self) -> Result<RunState, QemuError> {
        let state = self.state().await?;
        Ok(match state.as_str() {
            "running" => RunState::Running,
            // Not started yet, stopped after its memory was saved, and stopped by an error of the
            // host's disk, which is tried again: all only wait.
            "paused" | "prelaunch" | SAVED | DISK_ERROR => RunState::Paused,
            _ => RunState::Other(state),
        })
    }

    /// Whether no client of QEMU has let the guest run since its memory was saved.
    pub async fn has_not_run_since_save(&self) -> Result<bool, QemuError> {
        Ok(self.state().await? == SAVED)
    }

    /// Whether the guest stands still because a disk failed. Resuming it tries the same again.
    pub async fn has_disk_error(&self) -> Result<bool, QemuError> {
        Ok(self.state().await? == DISK_ERROR)
    }

    /// What it is doing, in QEMU's word.
    async fn state(&self) -> Result<String, QemuError> {
        let answer = self.ask("query-status", json!({}), ANSWER_LIMIT).await?;
        let state = answer.get("status").and_then(Value::as_str);
        Ok(state.unwrap_or_default().to_owned())
    }

    /// Lets the guest stand still.
    pub async fn pause(&self) -> Result<(), QemuError> {
        self.ask("stop", json!({}), DISK_ANSWER_LIMIT)
            .await
            .map(drop)
    }

    /// Lets the guest run. Where its memory is being saved, waits for that.
    pub async fn resume(&self) -> Result<(), QemuError> {
        let _not_saving = self.memory_lock.lock().await;
        self.ask("cont", json!({}), DISK_ANSWER_LIMIT)
            .await
            .map(drop)
    }

    /// Presses the power button; what happens is for the guest to decide.
    pub async fn power_down(&self) -> Result<(), QemuError> {
        self.ask("system_powerdown", json!({}), ANSWER_LIMIT)
            .await
            .map(drop)
    }

    /// Ends QEMU without asking the guest, and waits for its end.
    ///
    /// # Errors
    /// [`QemuError::Timeout`] where it has not ended after 30 seconds; [`Machine::kill`] will.
    pub async fn quit(&self) -> Result<(), QemuError> {
        // The answer may be lost on the way out; the end is what counts.
        drop(self.qmp.send("quit", json!({})));
        match tokio::time::timeout(DISK_ANSWER_LIMIT, self.process.exited()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(QemuError::Timeout {
                command: "quit".to_owned(),
                limit: DISK_ANSWER_LIMIT,
            }),
        }
    }

    /// Kills QEMU, at once and without waiting: [`Machine::exited`] does.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Kills QEMU when the guard is dropped, unless it is kept: for a machine on its way to its
    /// owner.
    pub fn kill_on_drop(&self) -> KillOnDrop {
        KillOnDrop::new(&self.process)
    }

    /// Waits for the end of QEMU.
    pub async fn exited(&self) -> ExitStatus {
        self.process.exited().await
    }

    /// The port on 127.0.0.1 that leads to the guest's port 22.
    pub async fn ssh_forward(&self) -> Result<u16, QemuError> {
        let table = self.monitor("info usernet").await?;
        forwarded_port(&table, 22).ok_or_else(|| QemuError::Refused {
            command: "info usernet".to_owned(),
            description: "QEMU forwards no port to the guest's port 22".to_owned(),
        })
    }

    /// Bytes that the guest has read from its disks and written to them, so far.
    pub async fn disk_bytes(&self) -> Result<u64, QemuError> {
        let answer = self
            .ask("query-blockstats", json!({}), ANSWER_LIMIT)
            .await?;
        Ok(disk_bytes(&answer))
    }

    /// A command of QEMU's monitor for people, and what it says. There an error is text as well.
    async fn monitor(&self, line: &str) -> Result<String, QemuError> {
        let arguments = json!({ "command-line": line });
        let answer = self
            .ask("human-monitor-command", arguments, ANSWER_LIMIT)
            .await?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// What the process used so far. None: it is gone.
    pub fn usage(&self) -> Option<ProcessUsage> {
        match self.process.exit() {
            Some(_) => None,
            None => process::usage(self.process.identity.pid),
        }
    }

    /// The guest's agent.
    pub fn agent(&self) -> GuestAgent {
        self.agent.clone()
    }

    /// A command over QMP. A closed connection is told as what it means: QEMU's end.
    pub(crate) async fn ask(
        &self,
        command: &'static str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, QemuError> {
        match self.qmp.execute(command, arguments, limit).await {
            Err(error @ QemuError::Disconnected { .. }) => {
                match tokio::time::timeout(ANSWER_LIMIT, self.process.exited()).await {
                    Ok(status) => Err(self.exit_error(status)),
                    Err(_) => Err(error),
                }
            }
            other => other,
        }
    }

    pub(crate) fn exit_error(&self, status: ExitStatus) -> QemuError {
        QemuError::Exited {
            status,
            stderr: log_tail(&self.error_log),
        }
    }
}

/// What went through all disks, in an answer to `query-blockstats`.
fn disk_bytes(answer: &Value) -> u64 {
    let disks = answer.as_array().into_iter().flatten();
    let bytes = |disk: &Value, key| {
        let stats = disk.get("stats")?;
        stats.get(key)?.as_u64()
    };
    disks
        .flat_map(|disk| [bytes(disk, "rd_bytes"), bytes(disk, "wr_bytes")])
        .flatten()
        .fold(0, u64::saturating_add)
}

/// The host's port in a table of QEMU's user network that leads to the guest's `port`.
fn forwarded_port(table: &str, port: u16) -> Option<u16> {
    table.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let forward = words.next()? == "TCP[HOST_FORWARD]";
        let _fd = words.next()?;
        let _host = words.next()?;
        let host_port = words.next()?;
        let _guest = words.next()?;
        let guest_port: u16 = words.next()?.parse().ok()?;
        (forward && guest_port == port).then(|| host_port.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{disk_bytes, forwarded_port};

    #[test]
    fn bytes_of_all_disks_are_summed() {
        let disk = |read: u64, written: u64| {
            json!({
                "device": "virtio0",
                "stats": { "rd_bytes": read, "wr_bytes": written, "rd_operations": 7 },
                "parent": { "stats": { "rd_bytes": 1000, "wr_bytes": 1000 } },
            })
        };
        for (answer, expected) in [
            (json!([]), 0),
            (json!([disk(1, 2), disk(30, 400)]), 433),
            (
                json!([{ "device": "no stats" }, disk(u64::MAX, 1)]),
                u64::MAX,
            ),
            (json!(null), 0),
        ] {
            assert_eq!(disk_bytes(&answer), expected, "{answer}");
        }
    }

    #[test]
    fn the_forward_is_found_in_the_table() {
        let table = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
            UDP[236 sec]  9       10.0.2.15 22       10.0.2.2    22     0     0\r\n  \
            TCP[ESTABLISHED]  11       127.0.0.1 4000       10.0.2.15    22     0     0\r\n  \
            TCP[HOST_FORWARD]   8       127.0.0.1 42135       10.0.2.15    22     0     0\r\n  \
            TCP[HOST_FORWARD]  10       0.0.0.0 8585       10.0.2.15    8585     0     0\r\n";
        assert_eq!(forwarded_port(table, 22), Some(42135));
        assert_eq!(forwarded_port(table, 8585), Some(8585));
        assert_eq!(forwarded_port(table, 80), None);
        assert_eq!(forwarded_port("", 22), None);
        assert_eq!(forwarded_port("TCP[HOST_FORWARD] 1 h x g 22", 22), None);
    }
}
