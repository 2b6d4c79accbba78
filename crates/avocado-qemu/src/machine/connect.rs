//! The connection to a QEMU that was just started, or that is there.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::handle::ANSWER_LIMIT;
use crate::error::QemuError;
use crate::exit_status::ExitStatus;
use crate::process::{Process, log_tail};
use crate::qmp::{QmpClient, QmpNotification};
use crate::socket;
use crate::spec::MachineSpec;

/// A socket appears some milliseconds after the start; nothing announces it.
const RETRY: Duration = Duration::from_millis(5);

/// A connection, and what QEMU tells over it without being asked.
type QmpConnection = (QmpClient, mpsc::UnboundedReceiver<QmpNotification>);

/// Connects as soon as QEMU listens, which must be within `limit`. Where `expected` is given, only
/// that process will do.
///
/// # Errors
/// [`QemuError::Exited`] where the process ends before or while it is talked to.
pub(super) async fn connect_qmp(
    process: &Process,
    spec: &MachineSpec,
    limit: Duration,
    expected: Option<u32>,
) -> Result<QmpConnection, QemuError> {
    let connected = tokio::select! {
        biased;
        connected = connect(&spec.sockets.supervisor, limit, expected) => connected,
        status = process.exited() => return Err(exit_error(status, spec)),
    };
    match connected {
        Ok(connection) => Ok(connection),
        // A connection breaks when QEMU ends; then its end is the better explanation.
        Err(error @ (QemuError::Disconnected { .. } | QemuError::Protocol { .. })) => {
            match timeout(ANSWER_LIMIT, process.exited()).await {
                Ok(status) => Err(exit_error(status, spec)),
                Err(_) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

async fn connect(
    path: &Path,
    limit: Duration,
    expected: Option<u32>,
) -> Result<QmpConnection, QemuError> {
    let deadline = Instant::now() + limit;
    let (stream, peer) = loop {
        match timeout_at(deadline, socket::connect(path)).await {
            Ok(Ok(connected)) => break connected,
            Ok(Err(QemuError::Connect { source, .. }))
                if Instant::now() < deadline && socket::nobody_listens(&source) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(QemuError::Timeout {
                    command: "connect".to_owned(),
                    limit,
                });
            }
        }
        sleep(RETRY).await;
    };
    if let (Some(expected), Some(found)) = (expected, peer)
        && found != expected
    {
        return Err(QemuError::WrongProcess {
            socket: path.to_owned(),
            found,
            expected,
        });
    }
    let left = deadline.saturating_duration_since(Instant::now());
    QmpClient::start(stream, path, left).await
}

fn exit_error(status: ExitStatus, spec: &MachineSpec) -> QemuError {
    QemuError::Exited {
        status,
        stderr: log_tail(&spec.error_log),
    }
}
