//! Starting and watching, where there are process ids and signals.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use super::handle::Process;
use super::identity::ProcessIdentity;
use super::system;
use crate::error::QemuError;
use crate::exit_status::ExitStatus;

/// Starts a program whose standard output and error go to `log`, which is emptied first. It
/// gets a process group of its own, so that an interrupt at the terminal does not reach it.
/// It runs in `directory`, or where we do.
pub(crate) fn spawn(
    program: &Path,
    arguments: &[OsString],
    log: &Path,
    directory: Option<&Path>,
) -> Result<Process, QemuError> {
    let file_error = |source| QemuError::File {
        action: "write",
        path: log.to_owned(),
        source,
    };
    let errors = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(log)
        .map_err(file_error)?;
    let output = errors.try_clone().map_err(file_error)?;
    let spawn_error = |source| QemuError::Spawn {
        binary: program.to_owned(),
        source,
    };
    let mut command = Command::new(program);
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    let child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(spawn_error)?;
    let pid = child.id().unwrap_or_default();
    // It may have ended already: then its identity is of no use.
    let identity = ProcessIdentity::of(pid).unwrap_or(ProcessIdentity {
        pid,
        started: String::new(),
    });
    let (kill, killed) = mpsc::unbounded_channel();
    let (exit, exits) = watch::channel(None);
    tokio::spawn(reap(child, killed, exit));
    Ok(Process::new(identity, kill, exits))
}

/// Watches a process that another one started. None: it is gone.
pub(crate) fn adopt(identity: &ProcessIdentity) -> Option<Process> {
    let mut handle = system::ProcessHandle::open(identity.pid, &identity.started)?;
    let (kill, mut killed) = mpsc::unbounded_channel();
    let (exit, exits) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = handle.ended() => break,
                Some(()) = killed.recv() => {}
            }
            handle.kill();
        }
        let _ = exit.send(Some(ExitStatus::Unknown));
    });
    Some(Process::new(identity.clone(), kill, exits))
}

async fn reap(
    mut child: Child,
    mut killed: mpsc::UnboundedReceiver<()>,
    exit: watch::Sender<Option<ExitStatus>>,
) {
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            Some(()) = killed.recv() => {
                let _ = child.start_kill();
            }
        }
    };
    let status = status.ok().and_then(|status| {
        let code = status.code().map(ExitStatus::Code);
        code.or(status.signal().map(ExitStatus::Signal))
    });
    let _ = exit.send(Some(status.unwrap_or(ExitStatus::Unknown)));
}
