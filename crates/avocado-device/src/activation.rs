//! Activation: which runtime is the active one, and with it what is merged.

use std::sync::Arc;

use avocado_events::{Cancel, Event, Sink};
use avocado_manifest::{Manifest, RuntimeId};

use crate::context::{DeviceContext, OsMismatch};
use crate::error::{DeviceError, FailureReason};
use crate::extension_set::{need_covered, of_runtime};
use crate::merge::state::MergedState;
use crate::merge::{ExtensionMerger, MergeFailure, MergeMode};
use crate::merging;
use crate::os_update;
use crate::os_update::error::OsUpdateError;
use crate::os_update::pending_update::PendingUpdate;
use crate::os_update::proof::BootOutcome;
use crate::runtime_list::{self, RuntimeEntry};
use crate::store::history::ActivationHistory;
use crate::store::lock::StoreLock;
use crate::store::reserve;

/// What activating a runtime came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activation {
    /// The runtime is the active one, and its extensions are merged.
    Active(RuntimeEntry),
    /// The runtime needs another build of the operating system, which is written and runs from the
    /// next boot on. Until then nothing has changed: the runtime is not active.
    RebootRequired {
        /// The runtime.
        runtime: RuntimeEntry,
        /// The update that was written.
        pending: Box<PendingUpdate>,
    },
}

impl Activation {
    /// The runtime that was to be activated.
    pub fn runtime(&self) -> &RuntimeEntry {
        match self {
            Activation::Active(runtime) | Activation::RebootRequired { runtime, .. } => runtime,
        }
    }
}

pub(crate) fn activate(
    context: &DeviceContext,
    id: &str,
    sink: &dyn Sink,
) -> Result<Activation, DeviceError> {
    let lock = context
        .lock_store(&Cancel::new(), sink)
        .map_err(DeviceError::Store)?;
    let manifest = context.runtimes().resolve(id)?;
    activate_locked(context, manifest, &lock, sink)
}

pub(crate) fn roll_back(
    context: &DeviceContext,
    sink: &dyn Sink,
) -> Result<Activation, DeviceError> {
    let lock = context
        .lock_store(&Cancel::new(), sink)
        .map_err(DeviceError::Store)?;
    let previous = runtime_list::previous(context).ok_or(DeviceError::NoPreviousRuntime)?;
    let manifest = context
        .runtimes()
        .read(&previous)
        .map_err(DeviceError::Store)?;
    activate_locked(context, manifest.into(), &lock, sink)
}

pub(crate) fn activate_locked(
    context: &DeviceContext,
    manifest: Arc<Manifest>,
    lock: &StoreLock,
    sink: &dyn Sink,
) -> Result<Activation, DeviceError> {
    let boot = merging::settle_update(context, lock, sink);
    if boot == (BootOutcome::WentBack { runs_still: true }) {
        os_update::reboot::after_rollback(context, sink);
    }
    let on_trial = matches!(boot, BootOutcome::OnTrial { .. });
    // It is the active one, or about to be, whatever becomes of what is asked for.
    if (on_trial || boot == BootOutcome::Committed)
        && let Err(error) = merging::merge_after(context, boot, MergeMode::IfNeeded, lock, sink)
    {
        sink.emit(Event::warning(avocado_events::chain(&error)));
    }
    let runtimes = context.runtimes();
    // A broken `active` is repaired by activating something.
    let before = runtimes.active_id().ok().flatten();
    let id = manifest.id.clone();
    let failed = |back_to: &Option<RuntimeId>, source: FailureReason| DeviceError::Update {
        id: id.clone(),
        back_to: back_to.clone(),
        source: Box::new(source),
    };
    // The other slot is the only one that is known to be good, and what runs must not be chosen unseen.
    if on_trial {
        return Err(failed(&before, OsUpdateError::OnTrial.into()));
    }
    let set = of_runtime(context, &manifest, &[]);
    let set = set.map_err(|failure| failed(&before, failure.reason))?;
    need_covered(context, &manifest).map_err(|reason| failed(&before, reason))?;
    let unsettled = os_update::apply::unsettled_for(context, &manifest);
    unsettled.map_err(|reason| failed(&before, reason))?;
    if let Some(OsMismatch { needed, running }) = context.os_mismatch(&manifest) {
        let pending = os_update::apply::apply(context, &manifest, lock, sink);
        let pending = pending.map_err(|reason| {
            let source = Box::new(reason);
            let reason = FailureReason::OtherOs {
                needed,
                running,
                source,
            };
            failed(&before, reason)
        })?;
        sink.emit(Event::info(format!(
            "the OS of runtime {id} is written: it can become active after a reboot"
        )));
        os_update::reboot::after_update(context, &pending, sink);
        return Ok(Activation::RebootRequired {
            runtime: runtime_list::entry(context, manifest),
            pending: Box::new(pending),
        });
    }
    // It is the OS of this runtime, and has failed.
    if manifest.os_bundle.is_some() && os_update::failed_update::runs_still(context) {
        return Err(failed(&before, OsUpdateError::Failed.into()));
    }
    let active_already = before.as_ref() == Some(&id);
    let mode = if active_already {
        MergeMode::IfNeeded
    } else {
        MergeMode::Always
    };
    // What does not work is not made the active one.
    let merge = ExtensionMerger::new(context, lock, sink).prove(&set, mode);
    let merge = merge
        .map_err(|error| not_merged(context, &before, error, lock, sink))
        .map_err(|error| failed(&before, error))?;
    // What was asked for last counts, also at the next boot.
    let moved = withdraw_other(context, &id, lock, sink).and_then(|()| {
        if active_already {
            return runtimes.sync_to_disk();
        }
        enter_history(context, before.as_ref(), &id, sink)?;
        runtimes.activate(&id)
    });
    if let Err(reason) = moved {
        merge.abandon();
        return Err(failed(&before, reason));
    }
    if let Err(error) = merge.finish() {
        let back = match &before {
            Some(before) => runtimes.activate(before),
            None => runtimes.deactivate(),
        };
        if let Err(reason) = back {
            return Err(failed(&Some(id.clone()), reason));
        }
        let reason = not_merged(context, &before, error, lock, sink);
        return Err(failed(&before, reason));
    }
    reserve::keep(context.base());
    sink.emit(Event::info(format!("runtime {id} is active")));
    Ok(Activation::Active(runtime_list::entry(context, manifest)))
}

/// Gives up an update for another runtime. Of one that cannot be given up, as it is not known what runs, the
/// runtime at least is not activated any more.
fn withdraw_other(
    context: &DeviceContext,
    id: &RuntimeId,
    lock: &StoreLock,
    sink: &dyn Sink,
) -> Result<(), FailureReason> {
    let pending = PendingUpdate::load(context.base())?;
    let is_other = |pending: &PendingUpdate| pending.runtime_id.as_ref().is_some_and(|of| of != id);
    let Some(pending) = pending.filter(is_other) else {
        return Ok(());
    };
    match os_update::apply::withdraw(context, lock, sink) {
        Err(reason) if !pending.is_of_this_boot(&context.paths) => {
            let why = avocado_events::chain(&reason);
            sink.emit(Event::warning(format!(
                "an OS update waits still, and its runtime will not become active: {why}"
            )));
            pending.without_runtime(context.base())
        }
        other => other,
    }
}

/// Notes that `next` is about to become active. Where the disk is so full that this cannot be
/// written, it becomes active all the same: a device that has to leave a runtime must be able to.
pub(crate) fn enter_history(
    context: &DeviceContext,
    active: Option<&RuntimeId>,
    next: &RuntimeId,
    sink: &dyn Sink,
) -> Result<(), FailureReason> {
    match ActivationHistory::load(context.base()).enter(active, next) {
        Err(reason) if reason.is_disk_full() => {
            let why = avocado_events::chain(&reason);
            sink.emit(Event::warning(format!(
                "the disk is full, so a later rollback may not find the way back from {next}: {why}"
            )));
            Ok(())
        }
        other => other,
    }
}

/// Why a runtime was not merged. Where that left the device without extensions, it gets those of the
/// runtime that is active, as at a boot.
fn not_merged(
    context: &DeviceContext,
    active: &Option<RuntimeId>,
    failure: MergeFailure,
    lock: &StoreLock,
    sink: &dyn Sink,
) -> FailureReason {
    let mut restored = failure.restored;
    if !restored && active.is_some() {
        let again = merging::merge_wanted(context, MergeMode::Always, lock, sink);
        restored = again.is_ok();
        if let Err(error) = again {
            sink.emit(Event::warning(error.to_string()));
        }
    }
    FailureReason::Merge(Box::new(DeviceError::Merge {
        restored,
        source: failure.set.reason,
    }))
}

/// Finishes an activation that was cut off; whether there was one.
pub(crate) fn finish(context: &DeviceContext, sink: &dyn Sink) -> Result<bool, DeviceError> {
    let merged = MergedState::load(&context.paths.merged());
    let on_trial = os_update::proof::runtime_on_trial(context);
    let active = match on_trial {
        Some(runtime) => Some(runtime.id.clone()),
        None => context.runtimes().active_id().ok().flatten(),
    };
    let anything = !merged.extensions.is_empty();
    // That the active one cannot be merged was found out already.
    let known = merged.degraded.is_some_and(|d| d.wanted == active);
    let cut_off = anything && active.is_some() && merged.runtime != active && !known;
    if cut_off {
        merging::merge(context, MergeMode::IfNeeded, sink)?;
    }
    Ok(cut_off)
}
