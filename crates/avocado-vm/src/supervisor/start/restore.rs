//! A guest whose memory was saved.

use avocado_qemu::{Machine, QemuError, RunState, restore_machine};

use super::super::context::SupervisorContext;
use super::super::error::SupervisorError;
use super::super::machine_record::MachineRecord;
use super::super::saved_memory::SavedMemory;
use super::boot::record_process;
use super::started::{RestoreFailure, StartKind, StartedMachine};
use crate::dir::{StateDir, StateFile};

/// Brings back the memory of a guest, and lets it run.
pub(super) async fn restore(
    context: &SupervisorContext,
    mut record: MachineRecord,
) -> Result<StartedMachine, RestoreFailure> {
    let kept = |kept| move |error: SupervisorError| RestoreFailure { error, kept };
    let dir = &context.dir;
    record
        .write(dir)
        .map_err(|error| kept(true)(error.into()))?;
    let memory = dir.file(StateFile::SavedMemory);
    let spec = record.spec.clone();
    let restored = restore_machine(&spec, &memory, |identity| {
        record_process(dir, &mut record, identity)
    })
    .await
    .map_err(|error| {
        // The memory itself is at fault, or something that may be better the next time.
        let kept = !matches!(error, QemuError::Memory { .. });
        RestoreFailure {
            error: error.into(),
            kept,
        }
    })?;
    let (machine, events) = restored;
    let guard = machine.kill_on_drop();
    let port = match resume_restored(dir, &machine).await {
        Ok(port) => port,
        Err(error) => {
            guard.kill().await;
            return Err(error);
        }
    };
    guard.keep();
    let _ = dir.remove(StateFile::SavedMemory);
    Ok(StartedMachine {
        machine,
        events,
        record,
        port,
        kind: StartKind::Restored,
    })
}

/// Lets a guest run whose memory was restored. Answers with the port that leads to it.
async fn resume_restored(dir: &StateDir, machine: &Machine) -> Result<u16, RestoreFailure> {
    let kept = |kept| move |error: SupervisorError| RestoreFailure { error, kept };
    let port = machine.ssh_forward().await;
    let port = port.map_err(|error| kept(true)(error.into()))?;
    let saved = SavedMemory::read(dir);
    // Saved memory is used once: as soon as the guest runs, its disks are ahead of it.
    SavedMemory::discard(dir).map_err(|error| kept(true)(error.into()))?;
    if let Err(error) = machine.resume().await {
        // Not where another process holds one of its disks: then it has not run, and can be later.
        let refused = matches!(error, QemuError::Refused { .. });
        let stands = refused && matches!(machine.run_state().await, Ok(RunState::Paused));
        let again = saved.filter(|_| stands).map(|saved| saved.write(dir));
        return Err(kept(matches!(again, Some(Ok(()))))(error.into()));
    }
    Ok(port)
}
