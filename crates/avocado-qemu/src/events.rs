//! What happens to a machine, told in the order in which it happened.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::process::{ExitStatus, Process, tail};
use crate::qmp::Notification;

/// What happened to a machine, whoever made it happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineEvent {
    /// The guest stands still.
    Paused,
    /// The guest runs again.
    Resumed,
    /// The guest ends; QEMU follows.
    Shutdown {
        /// Whether the guest wanted it, or somebody outside.
        by_guest: bool,
    },
    /// The guest starts from the beginning.
    Reset,
    /// A disk could not be written or read. It is told up to a second late, so it says nothing of
    /// now: [`crate::Machine::has_disk_error`] does.
    Disk {
        /// Why not, in QEMU's words.
        reason: String,
    },
    /// QEMU is gone. Always the last event.
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The tail of its standard error.
        stderr: String,
    },
}

/// Events of a machine, in their order. With the last [`crate::Machine`] its connection ends, and
/// from then on only [`MachineEvent::Exited`] is told.
pub type Events = mpsc::UnboundedReceiver<MachineEvent>;

fn translated(notification: &Notification) -> Option<MachineEvent> {
    Some(match notification.name.as_str() {
        "STOP" => MachineEvent::Paused,
        "RESUME" => MachineEvent::Resumed,
        "RESET" => MachineEvent::Reset,
        "BLOCK_IO_ERROR" => {
            let reason = notification.data.get("reason").and_then(Value::as_str);
            MachineEvent::Disk {
                reason: reason.unwrap_or("QEMU gives no reason").to_owned(),
            }
        }
        "SHUTDOWN" => MachineEvent::Shutdown {
            by_guest: notification.data.get("guest").and_then(Value::as_bool) == Some(true),
        },
        _ => return None,
    })
}

/// Translates what QEMU tells, and adds its end.
pub(crate) fn forward(
    mut notifications: mpsc::UnboundedReceiver<Notification>,
    process: Process,
    error_log: Arc<Path>,
) -> Events {
    let (sender, events) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        // The connection closes when QEMU ends: so its last words come before its end.
        while let Some(notification) = notifications.recv().await {
            if let Some(event) = translated(&notification) {
                let _ = sender.send(event);
            }
        }
        let status = process.exited().await;
        let stderr = tail(&error_log);
        let _ = sender.send(MachineEvent::Exited { status, stderr });
    });
    events
}
