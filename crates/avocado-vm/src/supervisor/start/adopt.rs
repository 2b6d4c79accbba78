//! Taking over the machine of a supervisor that was killed.

use std::time::Duration;

use avocado_events::Event;
use avocado_qemu::{Machine, MachineEvents, RunState};
use tokio::time::{Instant, sleep};

use super::super::context::SupervisorContext;
use super::super::error::SupervisorError;
use super::super::machine_record::MachineRecord;
use super::super::saved_memory::SavedMemory;
use super::super::{docker_tunnel, log};
use super::started::{StartKind, StartedMachine};
use crate::dir::{StateDir, StateFile};

/// Waiting for saved memory, which is still there; ending; past help. In every other state, which
/// it may leave by itself, a guest is let alone.
const LOST_STATES: [&str; 4] = ["inmigrate", "shutdown", "guest-panicked", "internal-error"];

/// How soon after its start a QEMU has its files.
const FILES_APPEAR: Duration = Duration::from_secs(3);
/// How often they are looked for.
const FILES_POLL: Duration = Duration::from_millis(20);

/// Lines of QEMU's log that go into a notice.
const QEMU_LOG_LINES: usize = 5;

/// Takes over the machine of a supervisor that was killed, if there is one. Must not be dropped on
/// the way: no process would own the machine.
pub(crate) async fn adopt_machine(
    context: &SupervisorContext,
) -> Result<Option<StartedMachine>, SupervisorError> {
    let dir = &context.dir;
    let Some(mut record) = MachineRecord::read(dir) else {
        return Ok(None);
    };
    if let Some(tunnel) = record.tunnel.take() {
        docker_tunnel::orphan_ended(&tunnel).await;
    }
    let found = match &record.identity {
        Some(identity) => match avocado_qemu::adopt_machine(identity, &record.spec).await {
            // Also in the very moment in which it is taken over.
            Ok(None) | Err(avocado_qemu::QemuError::Exited { .. }) => {
                warn_guest_lost(context);
                None
            }
            found => found?,
        },
        None => adopt_unrecorded(dir, &record).await,
    };
    let Some((machine, events)) = found else {
        return Ok(None);
    };
    let paused = match machine.run_state().await? {
        RunState::Running => false,
        RunState::Paused => true,
        RunState::Other(state) if !LOST_STATES.contains(&state.as_str()) => false,
        RunState::Other(state) => {
            let text = format!("a QEMU that is {state} is ended");
            context.sink.emit(Event::warning(text));
            machine.kill();
            machine.exited().await;
            return Ok(None);
        }
    };
    SavedMemory::discard(dir)?;
    dir.remove(StateFile::SavedMemory)?;
    let port = machine.ssh_forward().await?;
    record.identity = Some(machine.identity());
    record.write(dir)?;
    let text = "a VM that ran without supervisor was taken over; new options for the machine count \
                from its next start";
    context.sink.emit(Event::info(text));
    let ready = record.ready;
    let kind = StartKind::Adopted { paused, ready };
    Ok(Some(StartedMachine {
        machine,
        events,
        record,
        port,
        kind,
    }))
}

/// Tells of a QEMU that ended while it had no supervisor: what was open in the guest is gone, unless
/// its memory had been saved.
fn warn_guest_lost(context: &SupervisorContext) {
    let dir = &context.dir;
    if SavedMemory::read(dir).is_some() {
        return;
    }
    let mut text = "QEMU ended while the VM had no supervisor, and the guest boots anew".to_owned();
    let said = log::last_lines(&dir.file(StateFile::QemuLog), QEMU_LOG_LINES);
    if !said.is_empty() {
        text.push_str(": ");
        text.push_str(&said);
    }
    context.sink.emit(Event::warning(text));
}

/// The machine of a supervisor that was killed while QEMU started: QEMU's own file tells which
/// process it may be, and its socket whether it is. Both appear in the first moments.
async fn adopt_unrecorded(
    dir: &StateDir,
    record: &MachineRecord,
) -> Option<(Machine, MachineEvents)> {
    let age = std::fs::metadata(dir.file(StateFile::Machine)).and_then(|found| found.modified());
    let age = age.ok().and_then(|then| then.elapsed().ok());
    let patience = match age {
        Some(age) => FILES_APPEAR.saturating_sub(age),
        None => Duration::ZERO,
    };
    let deadline = Instant::now() + patience;
    loop {
        if let Some(identity) = record.process(dir)
            && let Ok(Some(found)) = avocado_qemu::adopt_machine(&identity, &record.spec).await
        {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(FILES_POLL).await;
    }
}
