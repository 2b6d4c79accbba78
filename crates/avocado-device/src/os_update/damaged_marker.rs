//! A marker that cannot be understood.

use std::sync::Arc;

use avocado_events::{Event, Sink};
use avocado_manifest::os_bundle::{OsBundleDescription, OsSlot, SlotDetection};
use avocado_manifest::{Manifest, Name};

use super::boot_loader::BootLoader;
use super::bundle_source::BundleSource;
use super::disk::BlockDevices;
use super::failed_update::FailedUpdate;
use super::pending_update::PendingUpdate;
use super::reboot_timer;
use crate::context::DeviceContext;
use crate::error::FailureReason;

/// A marker that tells nothing decides nothing. It is kept under another name, once the boot loader starts
/// the slot that runs. The bundle of the active runtime tells how: its boot loader says what was started, or
/// the root file system is on a partition that is of one slot alone. Else it stays, and `reason` is told. An
/// error is that of the boot loader, which may be gone later in the boot.
///
/// Where another OS runs than that of the active runtime, it is on trial: choosing its slot would keep what
/// nobody has proven. Going back is left to the boot loader then, or to somebody.
pub(super) fn set_aside(
    context: &DeviceContext,
    reason: FailureReason,
    sink: &dyn Sink,
) -> Result<(), FailureReason> {
    let active = context.runtimes().active().ok().flatten();
    let is_on_trial = |active: &Arc<Manifest>| context.os_mismatch(active).is_some();
    if active.as_ref().is_some_and(is_on_trial) {
        return stays(&reason, sink);
    }
    let bundle = active.as_ref().and_then(|active| {
        let named = active.os_bundle.as_ref()?;
        BundleSource::open(context, named).ok()
    });
    let description = bundle.as_ref().map(BundleSource::description);
    let loader = description.and_then(|bundle| BootLoader::of(&context.paths, bundle));
    let Some((loader, description)) = loader.zip(description) else {
        return stays(&reason, sink);
    };
    let running = if loader.says_what_runs() {
        loader.running()?
    } else {
        let Some(slot) = slot_of_root(context, description)? else {
            return stays(&reason, sink);
        };
        slot
    };
    loader.forbid(running.other())?;
    let why = avocado_events::chain(&reason);
    sink.emit(Event::warning(format!(
        "an OS update is given up, and pending-update.json kept as pending-update.json.damaged: {why}"
    )));
    if let Err(reason) = FailedUpdate::new(None, None, &why, None).save(context.base()) {
        sink.emit(Event::warning(avocado_events::chain(&reason)));
    }
    PendingUpdate::set_aside(context.base())?;
    reboot_timer::cancel(context, sink);
    Ok(())
}

fn stays(reason: &FailureReason, sink: &dyn Sink) -> Result<(), FailureReason> {
    let why = avocado_events::chain(reason);
    sink.emit(Event::warning(format!("an OS update waits still: {why}")));
    Ok(())
}

/// The slot whose partition the root file system is on: by the label, or by the number where the boot
/// loader goes by that.
fn slot_of_root(
    context: &DeviceContext,
    bundle: &OsBundleDescription,
) -> Result<Option<OsSlot>, FailureReason> {
    let Some(root) = BlockDevices::read(&context.paths)?.root()? else {
        return Ok(None);
    };
    let Some(update) = &bundle.update else {
        return Ok(None);
    };
    // A partition that both slots have says nothing.
    let mut partitions = update.artifacts.iter().map(|artifact| &artifact.partitions);
    let of_label = partitions.find_map(|slots| {
        let is = |name: &Name| Some(name.as_str()) == root.label.as_deref();
        slots.find(is).filter(|_| slots.first != slots.second)
    });
    let of_number = || match &update.slot_detection {
        SlotDetection::MenderUboot { partitions } => partitions.find(|n| *n == root.number),
        _ => None,
    };
    Ok(of_label.or_else(of_number))
}
