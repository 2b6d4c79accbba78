use avocado_events::{Cancel, Event, Sink};
use avocado_manifest::RuntimeId;

use crate::context::DeviceContext;
use crate::error::DeviceError;
use crate::os_update;
use crate::os_update::error::OsUpdateError;
use crate::os_update::pending_update::PendingUpdate;
use crate::runtime_list::{self, RuntimeEntry};
use crate::store::pins::PinnedRuntimes;

/// Removes a runtime that is neither active nor pinned.
pub(crate) fn remove(
    context: &DeviceContext,
    id: &str,
    sink: &dyn Sink,
) -> Result<(), DeviceError> {
    let lock = context
        .lock_store(&Cancel::new(), sink)
        .map_err(DeviceError::Store)?;
    let runtimes = context.runtimes();
    runtimes.sync_to_disk().map_err(DeviceError::Store)?;
    let id = match runtimes.resolve(id) {
        // It is there and damaged.
        Err(DeviceError::Store(reason)) => id.parse().map_err(|_| DeviceError::Store(reason))?,
        other => other?.id.clone(),
    };
    if runtimes.active_id().map_err(DeviceError::Store)?.as_ref() == Some(&id) {
        return Err(DeviceError::RemoveActiveRuntime);
    }
    let pins = PinnedRuntimes::load(context.base()).map_err(DeviceError::Store)?;
    if pins.contains(&id) {
        return Err(DeviceError::RemovePinnedRuntime { id });
    }
    // Nothing could prove its OS, or be active then.
    let pending = PendingUpdate::load(context.base()).map_err(DeviceError::Store)?;
    let pending = pending.filter(|pending| pending.runtime_id.as_ref() == Some(&id));
    if let Some(pending) = pending {
        if pending.is_on_trial(&context.paths) {
            return Err(DeviceError::Store(OsUpdateError::OnTrial.into()));
        }
        os_update::apply::withdraw(context, &lock, sink).map_err(DeviceError::Store)?;
    }
    runtimes.remove(&id).map_err(DeviceError::Store)?;
    sink.emit(Event::info(format!("runtime {id} is removed")));
    Ok(())
}

/// Pins a runtime, or ends that.
pub(crate) fn set_pinned(
    context: &DeviceContext,
    id: &str,
    pinned: bool,
    sink: &dyn Sink,
) -> Result<RuntimeEntry, DeviceError> {
    let _lock = context
        .lock_store(&Cancel::new(), sink)
        .map_err(DeviceError::Store)?;
    let runtimes = context.runtimes();
    let manifest = runtimes.resolve(id)?;
    let exists = |id: &RuntimeId| runtimes.exists(id);
    PinnedRuntimes::load(context.base())
        .and_then(|mut pins| pins.set(&manifest.id, pinned, exists))
        .map_err(DeviceError::Store)?;
    Ok(runtime_list::entry(context, manifest))
}
