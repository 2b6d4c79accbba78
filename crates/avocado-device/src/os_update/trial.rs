//! The end of a trial: the health of the system that was started is known, or the time for it is over.

use avocado_events::{Cancel, Event, Sink};

use super::error::OsUpdateError;
use super::health::HealthCheck;
use super::pending_update::PendingUpdate;
use super::proof::{self, BootOutcome};
use super::reboot;
use crate::context::DeviceContext;
use crate::error::{DeviceError, FailureReason};
use crate::merge::service_manager::ServiceManager;
use crate::store::lock::StoreLock;

/// What asking for the health of the system came to, where that is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialEnd {
    /// No OS update is on trial.
    NothingOnTrial,
    /// An update waits for its proof, which can still not be had: which slot runs is not known, or the boot
    /// loader cannot be told.
    Unsettled,
    /// The system is well: the boot loader keeps its slot, and its runtime is the active one.
    Committed,
}

/// Asks for the health of a system on trial, and commits it or goes back.
pub(crate) fn end(context: &DeviceContext, sink: &dyn Sink) -> Result<TrialEnd, FailureReason> {
    let pending = PendingUpdate::load(context.base())?;
    if !pending.is_some_and(|pending| pending.is_on_trial(&context.paths)) {
        return Ok(TrialEnd::NothingOnTrial);
    }
    // Without the lock of the store: what asks may well use the device.
    let health = HealthCheck::new(context, sink).run();
    // A shutdown ends what was waited for, which says nothing of the system.
    if health.is_err() && is_stopping(context) {
        return Err(OsUpdateError::ShutDown.into());
    }
    let lock = context.lock_store(&Cancel::new(), sink)?;
    let why = health
        .as_ref()
        .err()
        .map(|reason| avocado_events::chain(reason));
    match proof::at_end_of_trial(context, &lock, health, sink)? {
        BootOutcome::Committed => Ok(TrialEnd::Committed),
        BootOutcome::WentBack { runs_still } => {
            if runs_still {
                reboot::after_rollback(context, sink);
            }
            Err(OsUpdateError::NotProven(why.unwrap_or_default()).into())
        }
        _ => {
            sink.emit(Event::info("the OS update was given up meanwhile"));
            Ok(TrialEnd::NothingOnTrial)
        }
    }
}

/// Waits for the boot as health does, for as long. One that does not come to its end has what there will be.
///
/// # Errors
/// It ends: nothing is decided then.
pub(crate) fn wait_for_boot(context: &DeviceContext, sink: &dyn Sink) -> Result<(), FailureReason> {
    if let Err(reason) = HealthCheck::new(context, sink).boot() {
        sink.emit(Event::warning(avocado_events::chain(&reason)));
    }
    if is_stopping(context) {
        return Err(OsUpdateError::ShutDown.into());
    }
    Ok(())
}

fn is_stopping(context: &DeviceContext) -> bool {
    let manager = ServiceManager::running(&context.paths);
    manager.is_some_and(|manager| manager.is_stopping())
}

/// Ends a trial that has just begun: the extensions of the runtime cannot be merged.
pub(crate) fn fail(
    context: &DeviceContext,
    error: &DeviceError,
    lock: &StoreLock,
    sink: &dyn Sink,
) -> Result<(), FailureReason> {
    let why = OsUpdateError::NotProven(avocado_events::chain(error));
    let boot = proof::at_end_of_trial(context, lock, Err(why.into()), sink)?;
    if boot == (BootOutcome::WentBack { runs_still: true }) {
        reboot::after_rollback(context, sink);
    }
    Ok(())
}
