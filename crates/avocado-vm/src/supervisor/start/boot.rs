//! A guest that starts from its kernel.

use avocado_qemu::{ProcessIdentity, boot_machine};

use super::super::context::SupervisorContext;
use super::super::error::SupervisorError;
use super::super::machine_record::MachineRecord;
use super::super::saved_memory::SavedMemory;
use super::started::{StartKind, StartedMachine};
use crate::access;
use crate::dir::{StateDir, StateFile};

/// Starts a guest from its kernel. Saved memory does not count from here on.
pub(super) async fn boot(
    context: &SupervisorContext,
    record: MachineRecord,
) -> Result<StartedMachine, SupervisorError> {
    let dir = &context.dir;
    SavedMemory::discard(dir)?;
    dir.remove(StateFile::SavedMemory)?;
    access::forget_host(dir)?;
    let mut record = MachineRecord {
        ready: false,
        ..record
    };
    record.write(dir)?;
    let spec = record.spec.clone();
    let booted = boot_machine(&spec, |identity| record_process(dir, &mut record, identity)).await;
    let (machine, events) = booted?;
    let guard = machine.kill_on_drop();
    let port = match machine.ssh_forward().await {
        Ok(port) => port,
        Err(error) => {
            guard.kill().await;
            return Err(error.into());
        }
    };
    guard.keep();
    Ok(StartedMachine {
        machine,
        events,
        record,
        port,
        kind: StartKind::Booted,
    })
}

/// Writes down which process QEMU is, for the next supervisor: this one may be killed at any moment.
pub(super) fn record_process(
    dir: &StateDir,
    record: &mut MachineRecord,
    identity: ProcessIdentity,
) {
    record.identity = Some(identity);
    // Without it, QEMU's own pid file tells (see `MachineRecord::process`).
    let _ = record.write(dir);
}
