//! Having merged what should be.

use std::sync::Arc;

use avocado_events::{Cancel, Event, Sink};
use avocado_manifest::Manifest;

use crate::context::DeviceContext;
use crate::error::DeviceError;
use crate::extension_set::{decisions_of, of_enabled, of_runtime};
use crate::fallback;
use crate::merge::{ExtensionMerger, MergeMode};
use crate::os_update;
use crate::os_update::proof::BootOutcome;
use crate::store::lock::StoreLock;
use crate::upkeep::settle;

/// Merges the extensions of the active runtime, or else those that are enabled; where that cannot
/// be done and nothing is merged, as much as can be ([`fallback`]).
pub(crate) fn merge(
    context: &DeviceContext,
    mode: MergeMode,
    sink: &dyn Sink,
) -> Result<(), DeviceError> {
    let lock = context
        .lock_store(&Cancel::new(), sink)
        .map_err(|source| DeviceError::Merge {
            restored: true,
            source,
        })?;
    settle(context, &lock);
    let boot = settle_update(context, &lock, sink);
    merge_after(context, boot, mode, &lock, sink)
}

/// Merges what a boot came to.
pub(crate) fn merge_after(
    context: &DeviceContext,
    boot: BootOutcome,
    mode: MergeMode,
    lock: &StoreLock,
    sink: &dyn Sink,
) -> Result<(), DeviceError> {
    let (runtime, mode) = match boot.clone() {
        // What was merged before may be merged for another root.
        BootOutcome::Committed => (None, MergeMode::Always),
        BootOutcome::Starting(runtime) => (Some(runtime), mode),
        BootOutcome::OnTrial { runtime, begins } => {
            let mode = if begins { MergeMode::Always } else { mode };
            (runtime, mode)
        }
        _ => (None, mode),
    };
    let merged = merge_runtime(context, runtime, mode, lock, sink);
    match (boot, &merged) {
        (BootOutcome::WentBack { runs_still: true }, _) => {
            os_update::reboot::after_rollback(context, sink);
        }
        (BootOutcome::OnTrial { begins: true, .. }, Err(error)) => {
            let ended = os_update::trial::fail(context, error, lock, sink);
            ended.unwrap_or_else(|reason| {
                sink.emit(Event::warning(avocado_events::chain(&reason)));
            });
        }
        (BootOutcome::OnTrial { .. }, _) => os_update::health::ask(context, sink),
        // Links to devices that the boot loader's programs go by are made after the first merge of a boot.
        (BootOutcome::Unsettled, _) if os_update::health::is_asked_for(context) => {
            os_update::health::ask(context, sink);
        }
        _ => {}
    }
    merged
}

/// Goes on with an OS update that waits for its proof. A device comes up whatever becomes of that.
pub(crate) fn settle_update(
    context: &DeviceContext,
    lock: &StoreLock,
    sink: &dyn Sink,
) -> BootOutcome {
    os_update::proof::at_merge(context, lock, sink).unwrap_or_else(|reason| {
        let why = avocado_events::chain(&reason);
        sink.emit(Event::warning(format!("an OS update waits still: {why}")));
        BootOutcome::Unsettled
    })
}

/// As [`merge`], with the lock of the store.
pub(crate) fn merge_wanted(
    context: &DeviceContext,
    mode: MergeMode,
    lock: &StoreLock,
    sink: &dyn Sink,
) -> Result<(), DeviceError> {
    let on_trial = os_update::proof::runtime_on_trial(context);
    merge_runtime(context, on_trial, mode, lock, sink)
}

/// Merges `on_trial` in the place of the active runtime.
fn merge_runtime(
    context: &DeviceContext,
    on_trial: Option<Arc<Manifest>>,
    mode: MergeMode,
    lock: &StoreLock,
    sink: &dyn Sink,
) -> Result<(), DeviceError> {
    let wanted = match on_trial {
        Some(manifest) => Ok(Some(manifest)),
        None => context.runtimes().active(),
    };
    let (active, set) = match wanted {
        Ok(Some(manifest)) => {
            if let Err(reason) = decisions_of(context, &manifest) {
                let why = avocado_events::chain(&reason);
                let id = &manifest.id;
                sink.emit(Event::warning(format!(
                    "what was decided of the extensions of runtime {id} does not count: {why}"
                )));
            }
            let set = of_runtime(context, &manifest, &[]);
            (Some(manifest), set)
        }
        Ok(None) => (None, of_enabled(context, &[], sink)),
        Err(reason) => (None, Err(reason.into())),
    };
    let merger = ExtensionMerger::new(context, lock, sink);
    let failure = match set.map_err(|set| merger.not_begun(set)) {
        Ok(set) => match merger.merge(&set, mode) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        },
        Err(failure) => failure,
    };
    Err(fallback::come_up(
        context,
        active.as_deref(),
        failure,
        lock,
        sink,
    ))
}

/// Unmerges everything, and unmounts it if asked to.
pub(crate) fn unmerge(
    context: &DeviceContext,
    unmount: bool,
    sink: &dyn Sink,
) -> Result<(), DeviceError> {
    let lock = context
        .lock_store(&Cancel::new(), sink)
        .map_err(DeviceError::Unmerge)?;
    ExtensionMerger::new(context, &lock, sink).unmerge(unmount)
}
