//! Starting QEMU, from a [`MachineSpec`] to a [`Machine`].

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::connect::connect_qmp;
use super::handle::Machine;
use crate::arguments::{StartMode, arguments};
use crate::error::QemuError;
use crate::events::MachineEvents;
use crate::process::{self, KillOnDrop, ProcessIdentity};
use crate::socket;
use crate::spec::MachineSpec;

/// How long QEMU may take until it can be talked to. It allocates and initialises before that.
const STARTUP_LIMIT: Duration = Duration::from_secs(60);

/// Starts a machine and waits until QEMU can be talked to; the guest then already runs. As soon
/// as there is a process, `on_spawn` hears which one.
///
/// # Errors
/// [`QemuError::Exited`] with QEMU's own words where it does not accept the machine. Whatever
/// fails, and where the caller stops waiting, no QEMU is left behind.
pub async fn boot_machine(
    spec: &MachineSpec,
    on_spawn: impl FnOnce(ProcessIdentity) + Send,
) -> Result<(Machine, MachineEvents), QemuError> {
    start_qemu(spec, StartMode::Boot, on_spawn).await
}

/// Starts QEMU with its TPM, and connects to it.
pub(super) async fn start_qemu(
    spec: &MachineSpec,
    mode: StartMode,
    on_spawn: impl FnOnce(ProcessIdentity) + Send,
) -> Result<(Machine, MachineEvents), QemuError> {
    let sockets = &spec.sockets;
    let served = [
        &sockets.supervisor,
        &sockets.public,
        &sockets.agent,
        &sockets.control,
    ];
    for socket in served {
        // Else the first connection could reach what an earlier QEMU left there.
        remove_socket(socket)?;
    }
    if mode == StartMode::Boot {
        // QEMU appends, so that what a restored guest said before stays.
        create_private(&spec.serial_log).map_err(|source| QemuError::File {
            action: "write",
            path: spec.serial_log.clone(),
            source,
        })?;
    }
    let tpm = match &spec.tpm {
        Some(tpm) => Some(tpm.start().await?),
        None => None,
    };
    let process = process::spawn(&spec.binary, &arguments(spec, mode), &spec.error_log, None)?;
    let guard = KillOnDrop::new(&process);
    on_spawn(process.identity.clone());
    let (qmp, notifications) = connect_qmp(&process, spec, STARTUP_LIMIT, None).await?;
    for socket in served {
        socket::restrict_to_owner(socket)?;
    }
    guard.keep();
    // QEMU has greeted: it is connected with the TPM, which ends with it.
    if let Some(tpm) = tpm {
        tpm.keep();
    }
    Ok(Machine::new(spec, process, qmp, notifications))
}

/// Creates or empties a file, so that no other user can ever read it.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn remove_socket(path: &Path) -> Result<(), QemuError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(QemuError::File {
            action: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}
