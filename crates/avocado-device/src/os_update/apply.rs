//! Before the reboot: the inactive slot is written, and the boot loader told to try it.

use avocado_events::{Event, Sink, StepStatus};
use avocado_manifest::Manifest;
use avocado_manifest::os_bundle::OsSlot;

use super::boot_entry;
use super::boot_loader::LoaderOrder;
use super::bundle_source::BundleSource;
use super::error::OsUpdateError;
use super::failed_update::FailedUpdate;
use super::pending_update::PendingUpdate;
use super::plan::{self, PreparedUpdate};
use super::reboot_timer;
use super::slot_contents::SlotContents;
use super::slot_policy::{SlotStep, SlotUpdate};
use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::os_release;
use crate::store::lock::{self, StoreLock};

/// The stage that events of this name.
const STAGE: &str = "os-update";

/// Writes the operating system that `manifest` needs, unless that is done already. The device then
/// waits for the reboot, and nothing else has changed.
pub(crate) fn apply(
    context: &DeviceContext,
    manifest: &Manifest,
    lock: &StoreLock,
    sink: &dyn Sink,
) -> Result<PendingUpdate, FailureReason> {
    let _slots = lock::try_lock_slots(context.base())?.ok_or_else(|| {
        let why = "the other slot is being written by a download; wait for its end";
        OsUpdateError::Refused(vec![why.into()])
    })?;
    let boot_id = os_release::boot_id(&context.paths);
    let waiting = PendingUpdate::load(context.base())?;
    let facts = waiting.as_ref().and_then(|pending| {
        let (_, facts) = pending.facts(boot_id.as_deref())?;
        Some((pending, facts))
    });
    match facts {
        Some((pending, facts)) if pending.is_for(manifest) => {
            match facts.of_this_boot {
                Some(true) => {}
                // What kept it from being settled is not mended by another reboot.
                Some(false) => return Err(unsettled(context, pending)),
                // One that an older agent has written: nothing of it is done again.
                None => return Ok(pending.clone()),
            }
            let (prepared, _) = plan::prepare(context, manifest, Some(pending))?;
            let work = Application::new(context, manifest, &prepared, pending.clone(), sink);
            return work.drive(SlotUpdate::again(facts));
        }
        // The boot loader may be switched already, and then what it says of the slot that runs is wrong.
        Some((_, facts)) if facts.of_this_boot.is_none() => {
            let why = "an update that another program has written waits; reboot the device first";
            return Err(OsUpdateError::Refused(vec![why.into()]).into());
        }
        // Not even which slot it came from is known: its way back is none that could be gone.
        None if waiting.is_some() => {
            let why = "pending-update.json tells of an update that cannot be understood; remove it";
            return Err(OsUpdateError::Refused(vec![why.into()]).into());
        }
        _ => {}
    }
    let (prepared, plan) = plan::prepare(context, manifest, waiting.as_ref())?;
    for note in plan.notes {
        sink.emit(Event::warning(note));
    }
    if let Some((pending, facts)) = facts
        && facts.of_this_boot == Some(false)
        && prepared.running != facts.previous
        && (facts.trial_boots > 0 || pending.os_build_id != os_release::build_id(&context.paths))
    {
        // The other slot is the only one that is known to be good.
        return Err(unsettled(context, pending));
    }
    withdraw(context, lock, sink)?;
    FailedUpdate::forget(context.base())?;
    let pending = PendingUpdate {
        reboot_argument: prepared.loader.reboot_argument().map(str::to_owned),
        ..PendingUpdate::new(
            prepared.bundle.description(),
            prepared.running,
            &manifest.id,
            boot_id,
        )?
    };
    let work = Application::new(context, manifest, &prepared, pending, sink);
    work.drive(SlotUpdate::begin(prepared.running))
}

/// Why the OS of `manifest` cannot be taken for proven, where it was started and could not be settled.
pub(crate) fn unsettled_for(
    context: &DeviceContext,
    manifest: &Manifest,
) -> Result<(), FailureReason> {
    let boot_id = os_release::boot_id(&context.paths);
    let pending = PendingUpdate::load(context.base())?;
    let pending = pending.filter(|pending| pending.is_for(manifest));
    let facts = |pending: &PendingUpdate| pending.facts(boot_id.as_deref());
    match pending {
        Some(pending) if facts(&pending).is_some_and(|(_, f)| f.of_this_boot == Some(false)) => {
            Err(unsettled(context, &pending))
        }
        _ => Ok(()),
    }
}

/// Why an update waits still after the device was started.
fn unsettled(context: &DeviceContext, pending: &PendingUpdate) -> FailureReason {
    let kept = FailedUpdate::load(context.base());
    let kept = kept.filter(|kept| kept.runtime_id == pending.runtime_id);
    let why = kept.map_or("which slot runs is not known".into(), |kept| kept.why);
    OsUpdateError::NotProven(format!(
        "the update is written and the device was started since, but it cannot be settled: {why}"
    ))
    .into()
}

/// Gives up an update that waits for the reboot, if there is one: the boot loader starts the slot that
/// runs, and the marker goes.
pub(crate) fn withdraw(
    context: &DeviceContext,
    _lock: &StoreLock,
    sink: &dyn Sink,
) -> Result<(), FailureReason> {
    let Some(pending) = PendingUpdate::load(context.base())? else {
        return Ok(());
    };
    let boot_id = os_release::boot_id(&context.paths);
    let Some((naming, facts)) = pending.facts(boot_id.as_deref()) else {
        return Ok(());
    };
    let loader = pending.boot_loader(context, naming)?;
    let running = pending.running(context, facts, &loader)?;
    let mut update = SlotUpdate::withdraw(running);
    while let Some(step) = update.step() {
        match step {
            SlotStep::RestoreLoader(slot) => loader.tell(LoaderOrder::GoBack, slot)?,
            _ => PendingUpdate::remove(context.base())?,
        }
        update = update.done();
    }
    reboot_timer::cancel(context, sink);
    sink.emit(Event::info(
        "the OS update that waited for the reboot is given up",
    ));
    Ok(())
}

/// The work on one update.
struct Application<'a> {
    context: &'a DeviceContext,
    prepared: &'a PreparedUpdate<'a>,
    pending: PendingUpdate,
    sink: &'a dyn Sink,
}

impl<'a> Application<'a> {
    fn new(
        context: &'a DeviceContext,
        manifest: &Manifest,
        prepared: &'a PreparedUpdate<'a>,
        pending: PendingUpdate,
        sink: &'a dyn Sink,
    ) -> Self {
        let message = format!("writing the OS of runtime {}", manifest.id);
        sink.emit(Event::step(STAGE, StepStatus::Running, message));
        Application {
            context,
            prepared,
            pending,
            sink,
        }
    }

    /// Does every step up to the reboot. The first one that fails is the error, whatever is done
    /// because of it.
    fn drive(self, begin: SlotUpdate) -> Result<PendingUpdate, FailureReason> {
        let mut update = begin;
        let mut failure = None;
        while let Some(step) = update.step() {
            match self.act(step, failure.as_ref()) {
                Ok(()) => update = update.done(),
                Err(reason) => {
                    let next = update.failed();
                    failure.get_or_insert(reason);
                    let Some(next) = next else { break };
                    update = next;
                }
            }
        }
        match failure {
            None => {
                self.sink.emit(Event::step(STAGE, StepStatus::Success, ""));
                Ok(self.pending)
            }
            Some(reason) => {
                let message = reason.to_string();
                self.sink
                    .emit(Event::step(STAGE, StepStatus::Failed, message));
                Err(reason)
            }
        }
    }

    fn act(&self, step: SlotStep, failure: Option<&FailureReason>) -> Result<(), FailureReason> {
        let loader = &self.prepared.loader;
        let base = self.context.base();
        match step {
            SlotStep::ForbidSlot(slot) => {
                loader.forbid(slot)?;
                loader.make_entries(slot)
            }
            SlotStep::WriteSlot(slot) => self.write(slot),
            SlotStep::WriteMarker => self.pending.save(base),
            SlotStep::SwitchLoader(slot) => loader.tell(LoaderOrder::Try, slot),
            SlotStep::RestoreLoader(slot) => loader.tell(LoaderOrder::GoBack, slot),
            SlotStep::KeepReason => {
                let why = failure.map(|reason| avocado_events::chain(reason));
                let pending = &self.pending;
                FailedUpdate::new(
                    pending.runtime_id.clone(),
                    pending.os_build_id.clone(),
                    &why.unwrap_or_default(),
                    None,
                )
                .save(base)
            }
            SlotStep::RemoveMarker => {
                PendingUpdate::remove(base)?;
                reboot_timer::cancel(self.context, self.sink);
                Ok(())
            }
            // Of the time after the reboot.
            SlotStep::Verify
            | SlotStep::CountBoot
            | SlotStep::CommitLoader(_)
            | SlotStep::ActivateRuntime => Ok(()),
        }
    }

    /// Writes every artifact to its partition.
    fn write(&self, slot: OsSlot) -> Result<(), FailureReason> {
        let PreparedUpdate { bundle, places, .. } = self.prepared;
        // It was written while it came, and read and compared just now.
        let BundleSource::Pool(bundle) = bundle else {
            return Ok(());
        };
        let name = self.prepared.loader.naming.name(slot);
        SlotContents::forget(self.context.base(), name)?;
        bundle.artifacts(&mut |artifact, size, mut bytes| {
            let place = places
                .get(&artifact.name)
                .ok_or_else(|| OsUpdateError::Content(format!("{} has no place", artifact.name)))?;
            place.write(&artifact.name, artifact.sha256, size, &mut bytes, self.sink)
        })?;
        boot_entry::name_root_of(self.context, &bundle.description, places, slot)
    }
}
