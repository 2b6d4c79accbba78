//! Having merged what should be.

use avocado_events::{Cancel, Sink};

use crate::context::DeviceContext;
use crate::error::DeviceError;
use crate::extension_set::{of_enabled, of_runtime};
use crate::fallback;
use crate::merge::{ExtensionMerger, MergeMode};
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
    merge_wanted(context, mode, &lock, sink)
}

/// As [`merge`], with the lock of the store.
pub(crate) fn merge_wanted(
    context: &DeviceContext,
    mode: MergeMode,
    lock: &StoreLock,
    sink: &dyn Sink,
) -> Result<(), DeviceError> {
    let (active, set) = match context.runtimes().active() {
        Ok(Some(manifest)) => {
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
