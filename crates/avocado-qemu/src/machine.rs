//! A running machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use crate::arguments::Start;
use crate::events::{self, Events};
use crate::process::{ExitStatus, Identity, Process, Usage, tail};
use crate::qmp::Qmp;
use crate::{Agent, Error, Spec, launch, memory};

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
    pub(crate) qmp: Qmp,
    pub(crate) process: Process,
    agent: Agent,
    error_log: Arc<Path>,
    /// Held while memory is saved: a guest must not be resumed in the middle of that.
    pub(crate) memory: Arc<Mutex<()>>,
}

/// QEMU's word for a guest that stands still since its memory was saved.
const SAVED: &str = "postmigrate";
/// And for one that stands still because a disk could not be read or written.
const DISK_ERROR: &str = "io-error";

/// For answers that QEMU gives after it has finished with its disks.
pub(crate) const SLOW: Duration = Duration::from_secs(30);
/// For answers that QEMU knows.
pub(crate) const QUICK: Duration = Duration::from_secs(5);

impl Machine {
    /// Starts a machine and waits until QEMU can be talked to; the guest then already runs. As soon
    /// as there is a process, `note` hears which one.
    ///
    /// # Errors
    /// [`Error::Exited`] with QEMU's own words where it does not accept the machine. Whatever
    /// fails, and where the caller stops waiting, no QEMU is left behind.
    pub async fn boot(
        spec: &Spec,
        note: impl FnOnce(Identity) + Send,
    ) -> Result<(Machine, Events), Error> {
        launch::start(spec, Start::Boot, note).await
    }

    /// Takes over a machine that an earlier process of ours started. None: that process is gone,
    /// or its id is another process's by now. A [`Machine::save`] that the earlier process had
    /// begun is over then, one way or the other.
    ///
    /// Of `spec` only the sockets and the log have a meaning here.
    ///
    /// # Errors
    /// [`Error::Busy`] where somebody else holds the supervisor's socket, [`Error::Stranger`]
    /// where another process serves it, [`Error::Exited`] where it ends in this moment.
    pub async fn adopt(
        identity: &Identity,
        spec: &Spec,
    ) -> Result<Option<(Machine, Events)>, Error> {
        launch::adopt(identity, spec).await
    }

    /// Starts a machine with the memory that [`Machine::save`] wrote; it comes up paused. As soon
    /// as there is a process, `note` hears which one. The
    /// spec must be equal to the one that was saved, and its disks unchanged. That is for the
    /// caller to know: QEMU notices a device that is missing, but neither an additional one, nor
    /// more memory, nor another content of a disk.
    ///
    /// # Errors
    /// Like [`Machine::boot`]; [`Error::Memory`] where the file is of no use. With every other
    /// error it may be the next time.
    pub async fn restore(
        spec: &Spec,
        memory: &Path,
        note: impl FnOnce(Identity) + Send,
    ) -> Result<(Machine, Events), Error> {
        memory::restore(spec, memory, note).await
    }

    pub(crate) fn new(
        spec: &Spec,
        process: Process,
        qmp: Qmp,
        notifications: mpsc::UnboundedReceiver<crate::qmp::Notification>,
    ) -> (Machine, Events) {
        let error_log: Arc<Path> = spec.error_log.as_path().into();
        let events = events::forward(notifications, process.clone(), error_log.clone());
        let machine = Machine {
            qmp,
            process,
            agent: Agent::new(&spec.sockets.agent),
            error_log,
            memory: Arc::default(),
        };
        (machine, events)
    }

    /// Which process it is; to be kept for [`Machine::adopt`].
    pub fn identity(&self) -> Identity {
        self.process.identity.clone()
    }

    /// What it is doing, asked of QEMU.
    pub async fn run_state(&self) -> Result<RunState, Error> {
        let state = self.state().await?;
        Ok(match state.as_str() {
            "running" => RunState::Running,
            // Not started yet, stopped after its memory was saved, and stopped by an error of the
            // host's disk, which is tried again: all only wait.
            "paused" | "prelaunch" | SAVED | DISK_ERROR => RunState::Paused,
            _ => RunState::Other(state),
        })
    }

    /// Whether nobody has let the guest run since its memory was saved.
    pub async fn is_as_saved(&self) -> Result<bool, Error> {
        Ok(self.state().await? == SAVED)
    }

    /// Whether the guest stands still because a disk failed. Resuming it tries the same again.
    pub async fn has_disk_error(&self) -> Result<bool, Error> {
        Ok(self.state().await? == DISK_ERROR)
    }

    /// What it is doing, in QEMU's word.
    async fn state(&self) -> Result<String, Error> {
        let answer = self.ask("query-status", json!({}), QUICK).await?;
        let state = answer.get("status").and_then(Value::as_str);
        Ok(state.unwrap_or_default().to_owned())
    }

    /// Lets the guest stand still.
    pub async fn pause(&self) -> Result<(), Error> {
        self.ask("stop", json!({}), SLOW).await.map(drop)
    }

    /// Lets the guest run. Where its memory is being saved, waits for that.
    pub async fn resume(&self) -> Result<(), Error> {
        let _alone = self.memory.lock().await;
        self.ask("cont", json!({}), SLOW).await.map(drop)
    }

    /// Writes the memory of a paused machine to a file, and syncs it. QEMU is then still there,
    /// paused, and can be resumed or quit. Where that fails, or where the caller stops waiting,
    /// the file is removed and the machine is as before.
    ///
    /// # Errors
    /// [`Error::NotPaused`]; [`Error::Memory`] with QEMU's words, for example for a full disk or
    /// a device that cannot be saved (a mounted workspace).
    pub async fn save(&self, memory: &Path) -> Result<(), Error> {
        memory::save(self, memory).await
    }

    /// Presses the power button; what happens is for the guest to decide.
    pub async fn power_down(&self) -> Result<(), Error> {
        self.ask("system_powerdown", json!({}), QUICK)
            .await
            .map(drop)
    }

    /// Ends QEMU without asking the guest, and waits for its end.
    ///
    /// # Errors
    /// [`Error::Timeout`] where it has not ended after 30 seconds; [`Machine::kill`] will.
    pub async fn quit(&self) -> Result<(), Error> {
        // The answer may be lost on the way out; the end is what counts.
        drop(self.qmp.send("quit", json!({})));
        match tokio::time::timeout(SLOW, self.process.exited()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Timeout {
                command: "quit".to_owned(),
                limit: SLOW,
            }),
        }
    }

    /// Kills QEMU, at once and without waiting: [`Machine::exited`] does.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Waits for the end of QEMU.
    pub async fn exited(&self) -> ExitStatus {
        self.process.exited().await
    }

    /// The port on 127.0.0.1 that leads to the guest's port 22.
    pub async fn ssh_forward(&self) -> Result<u16, Error> {
        let table = self.monitor("info usernet").await?;
        forwarded_port(&table, 22).ok_or_else(|| Error::Refused {
            command: "info usernet".to_owned(),
            description: "QEMU forwards no port to the guest's port 22".to_owned(),
        })
    }

    /// A command of QEMU's monitor for people, and what it says. There an error is text as well.
    async fn monitor(&self, line: &str) -> Result<String, Error> {
        let arguments = json!({ "command-line": line });
        let answer = self.ask("human-monitor-command", arguments, QUICK).await?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// What the process used so far. None: it is gone.
    pub fn usage(&self) -> Option<Usage> {
        match self.process.exit() {
            Some(_) => None,
            None => Usage::of(self.process.identity.pid),
        }
    }

    /// The guest's agent.
    pub fn agent(&self) -> Agent {
        self.agent.clone()
    }

    /// A command over QMP. A closed connection is told as what it means: QEMU's end.
    pub(crate) async fn ask(
        &self,
        command: &'static str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, Error> {
        match self.qmp.execute(command, arguments, limit).await {
            Err(error @ Error::Disconnected { .. }) => {
                match tokio::time::timeout(QUICK, self.process.exited()).await {
                    Ok(status) => Err(self.exit_error(status)),
                    Err(_) => Err(error),
                }
            }
            other => other,
        }
    }

    pub(crate) fn exit_error(&self, status: ExitStatus) -> Error {
        Error::Exited {
            status,
            stderr: tail(&self.error_log),
        }
    }
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
    use super::forwarded_port;

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
