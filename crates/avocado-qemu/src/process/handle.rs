//! A process that is watched until its end.

use tokio::sync::{mpsc, watch};

use super::identity::ProcessIdentity;
use crate::exit_status::ExitStatus;

/// A process; a cloneable handle. Dropping it ends nothing: a task watches the process until it
/// ends, and reaps it where it is a child.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) identity: ProcessIdentity,
    kill: mpsc::UnboundedSender<()>,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// The process that a task watches: that task kills it when `kill` says so, and tells on `exit`
    /// how it ended.
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    pub(super) fn new(
        identity: ProcessIdentity,
        kill: mpsc::UnboundedSender<()>,
        exit: watch::Receiver<Option<ExitStatus>>,
    ) -> Self {
        Process {
            identity,
            kill,
            exit,
        }
    }

    /// Waits for its end.
    pub(crate) async fn exited(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or(ExitStatus::Unknown),
            // The watching task is gone, with its runtime; so is the task that asks.
            Err(_) => ExitStatus::Unknown,
        }
    }

    /// How it ended, if it did.
    pub(crate) fn exit(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Kills it. The signal goes through the task that watches it, so that it never reaches
    /// another process that got the same id.
    pub(crate) fn kill(&self) {
        let _ = self.kill.send(());
    }
}
