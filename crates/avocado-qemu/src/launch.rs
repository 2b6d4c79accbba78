//! From a [`Spec`] to a [`Machine`]: a new process, or one that is there.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::arguments::{Start, arguments};
use crate::events::Events;
use crate::machine::QUICK;
use crate::process::{Identity, Process, tail};
use crate::qmp::Qmp;
use crate::{Error, Machine, Spec, memory, socket};

/// How long QEMU may take until it can be talked to. It allocates and initialises before that.
const STARTUP: Duration = Duration::from_secs(60);
/// A socket appears some milliseconds after the start; nothing announces it.
const RETRY: Duration = Duration::from_millis(5);

/// Kills a process that nobody will know about, unless it is kept.
pub(crate) struct Abandoned(Option<Process>);

impl Abandoned {
    pub(crate) fn new(process: &Process) -> Self {
        Abandoned(Some(process.clone()))
    }

    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.kill();
        }
    }
}

/// Starts QEMU.
pub(crate) async fn start(
    spec: &Spec,
    start: Start,
    note: impl FnOnce(Identity) + Send,
) -> Result<(Machine, Events), Error> {
    let sockets = &spec.sockets;
    let served = [
        &sockets.supervisor,
        &sockets.public,
        &sockets.agent,
        &sockets.control,
    ];
    for socket in served {
        // Else the first connection could reach what an earlier QEMU left there.
        remove(socket)?;
    }
    let tpm = match &spec.tpm {
        Some(tpm) => Some(tpm.start().await?),
        None => None,
    };
    let process = Process::spawn(&spec.binary, &arguments(spec, start), &spec.error_log, None)?;
    let abandoned = Abandoned::new(&process);
    note(process.identity.clone());
    let connected = tokio::select! {
        biased;
        connected = greet(&sockets.supervisor, STARTUP, None) => connected,
        status = process.exited() => {
            return Err(Error::Exited { status, stderr: tail(&spec.error_log) });
        }
    };
    let (qmp, notifications) = match connected {
        Ok(connected) => connected,
        Err(error) => return Err(explained(error, &process, spec).await),
    };
    for socket in served {
        socket::keep_private(socket)?;
    }
    abandoned.keep();
    // QEMU has greeted: it is connected with the TPM, which ends with it.
    if let Some(tpm) = tpm {
        tpm.keep();
    }
    Ok(Machine::new(spec, process, qmp, notifications))
}

/// A connection breaks when QEMU ends; then its end is the better explanation.
async fn explained(error: Error, process: &Process, spec: &Spec) -> Error {
    if !matches!(error, Error::Disconnected { .. } | Error::Protocol { .. }) {
        return error;
    }
    match tokio::time::timeout(QUICK, process.exited()).await {
        Ok(status) => Error::Exited {
            status,
            stderr: tail(&spec.error_log),
        },
        Err(_) => error,
    }
}

type Greeted = (
    Qmp,
    tokio::sync::mpsc::UnboundedReceiver<crate::qmp::Notification>,
);

/// Connects as soon as QEMU listens, which must be within `limit`. Where `expected` is given, only
/// that process will do.
async fn greet(path: &Path, limit: Duration, expected: Option<u32>) -> Result<Greeted, Error> {
    let deadline = Instant::now() + limit;
    let (stream, peer) = loop {
        match timeout_at(deadline, socket::connect(path)).await {
            Ok(Ok(connected)) => break connected,
            Ok(Err(Error::Connect { source, .. }))
                if Instant::now() < deadline
                    && matches!(
                        source.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    ) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(Error::Timeout {
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
        return Err(Error::Stranger {
            socket: path.to_owned(),
            found,
            expected,
        });
    }
    let left = deadline.saturating_duration_since(Instant::now());
    Qmp::start(stream, path, left).await
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::File {
            action: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Takes over a QEMU that is there.
pub(crate) async fn adopt(
    identity: &Identity,
    spec: &Spec,
) -> Result<Option<(Machine, Events)>, Error> {
    let Some(process) = Process::adopt(identity) else {
        return Ok(None);
    };
    let connected = tokio::select! {
        biased;
        connected = greet(&spec.sockets.supervisor, QUICK, Some(identity.pid)) => connected,
        status = process.exited() => {
            return Err(Error::Exited { status, stderr: tail(&spec.error_log) });
        }
    };
    let (qmp, notifications) = match connected {
        Ok(connected) => connected,
        Err(error) => return Err(explained(error, &process, spec).await),
    };
    let (machine, events) = Machine::new(spec, process, qmp, notifications);
    memory::end_forgotten(&machine).await?;
    Ok(Some((machine, events)))
}
