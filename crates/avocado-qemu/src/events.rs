//! What happens to a machine, told in the order in which it happened.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::exit_status::ExitStatus;
use crate::process::{Process, log_tail};
use crate::qmp::QmpNotification;

/// What happened to a machine, by the guest, by us or by another client of QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineEvent {
    /// The guest stands still.
    Paused,
    /// The guest runs again.
    Resumed,
    /// The guest ends; QEMU follows.
    Shutdown {
        /// Whether the guest wanted it, or a client of QEMU.
        by_guest: bool,
    },
    /// The guest starts from the beginning.
    Reset,
    /// The guest's kernel panicked. What it does next is up to it: most start anew.
    Panicked,
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

/// MachineEvents of a machine, in their order. With the last [`crate::Machine`] its connection ends, and
/// from then on only [`MachineEvent::Exited`] is told.
pub type MachineEvents = mpsc::UnboundedReceiver<MachineEvent>;

fn translate(notification: &QmpNotification) -> Option<MachineEvent> {
    Some(match notification.name.as_str() {
        "STOP" => MachineEvent::Paused,
        "RESUME" => MachineEvent::Resumed,
        "RESET" => MachineEvent::Reset,
        "GUEST_PANICKED" => MachineEvent::Panicked,
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
    mut notifications: mpsc::UnboundedReceiver<QmpNotification>,
    process: Process,
    error_log: Arc<Path>,
) -> MachineEvents {
    let (sender, events) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        // The connection closes when QEMU ends: so its last words come before its end.
        while let Some(notification) = notifications.recv().await {
            if let Some(event) = translate(&notification) {
                let _ = sender.send(event);
            }
        }
        let status = process.exited().await;
        let stderr = log_tail(&error_log);
        let _ = sender.send(MachineEvent::Exited { status, stderr });
    });
    events
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_qemu_tells_is_translated() {
        for (name, data, event) in [
            ("RESET", json!({"guest": true}), Some(MachineEvent::Reset)),
            (
                "GUEST_PANICKED",
                json!({"action": "run"}),
                Some(MachineEvent::Panicked),
            ),
            ("GUEST_CRASHLOADED", json!({"action": "run"}), None),
        ] {
            let name = name.to_owned();
            assert_eq!(translate(&QmpNotification { name, data }), event);
        }
    }
}
