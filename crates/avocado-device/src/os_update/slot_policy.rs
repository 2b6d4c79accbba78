//! The life of an update of the operating system: which step comes next, and what follows from how it
//! ended. There is no reading and no writing in here, so that the tests can try it in every world.
//!
//! ```text
//!            ┌────────── an update that waits is given up ◄───────────┐
//!            ▼                                                        │
//! idle ─► forbidden ─► written ─► marked ─► loader switched ─► waits for the reboot
//!                                                                     │
//!        idle ◄─ marker removed ◄─ runtime active ◄─ loader keeps it ◄┤ the other slot runs, verified
//!        idle ◄─ marker removed ◄─ loader goes back ◄─ reason kept ◄──┘ not verified, or another slot
//! ```
//!
//! What outlives a cut of the power are the slots, the boot loader and the marker
//! (`pending-update.json`). The marker is there before the loader is told anything, and is the last
//! thing that goes: while the loader may start the slot that was written, the device knows why.

use avocado_manifest::os_bundle::OsSlot;

/// Where an update is. Each state but the two that wait has one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// None is under way.
    Idle,
    /// An update that waits for the reboot is given up: the loader is told to start the slot that runs.
    Withdrawing,
    /// The loader starts the slot that runs: the marker of the update goes.
    Withdrawn,
    /// The slot must not be started while it is written.
    Forbidding,
    /// The slot is written and compared.
    Writing,
    /// The slot is whole: the marker is made.
    Written,
    /// The marker lasts: the loader is switched.
    Armed,
    /// All is done that can be done before the reboot.
    Rebooting,
    /// The slot that was written runs, and has not proven itself.
    Unverified,
    /// It has: the loader is told to keep it.
    Verified,
    /// The loader keeps it: its runtime becomes the active one.
    Committed,
    /// Its runtime is active: the marker goes.
    Finishing,
    /// It has not, or another slot runs: why is written down, as far as that can be.
    GoingBack,
    /// The loader is told to start the slot before.
    Restoring,
    /// The loader starts the slot before: the marker goes.
    Leaving,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotStep {
    /// Tell the loader to start the other slot from now on, and this one not at all where it can be told.
    ForbidSlot(OsSlot),
    /// Write this slot, bring it to the disk, read it and compare.
    WriteSlot(OsSlot),
    /// Make the marker, lastingly.
    WriteMarker,
    /// Tell the loader to start this slot, once where it can do that.
    SwitchLoader(OsSlot),
    /// Ask the operating system that runs what it is, and whether its runtime can be merged.
    Verify,
    /// Tell the loader that this slot is good.
    CommitLoader(OsSlot),
    /// Make the runtime of the update the active one.
    ActivateRuntime,
    /// Tell the loader to start this slot from now on, and not the other one.
    RestoreLoader(OsSlot),
    /// Write down why the update failed, lastingly.
    KeepReason,
    /// Remove the marker, lastingly.
    RemoveMarker,
}

/// An update between the slots of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotUpdate {
    /// The slot that ran when the update began.
    pub(crate) previous: OsSlot,
    pub(crate) state: SlotState,
}

/// What a marker says that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MarkerFacts {
    /// The slot that ran when it was made.
    pub(crate) previous: OsSlot,
    /// Whether it was made since the device was started. Not known of those that older agents made.
    pub(crate) of_this_boot: Option<bool>,
}

impl SlotUpdate {
    /// A new update, while `running` runs. No other one waits for the reboot.
    pub(crate) fn begin(running: OsSlot) -> Self {
        SlotUpdate {
            previous: running,
            state: SlotState::Forbidding,
        }
    }

    /// An update is not wanted any more. It is the slot that runs that has to be started from now on:
    /// after a reboot that may be the one that was written, and the other one is written next.
    pub(crate) fn withdraw(running: OsSlot) -> Self {
        SlotUpdate {
            previous: running,
            state: SlotState::Withdrawing,
        }
    }

    /// The same update again, as its marker is there and the device was not started since: whether
    /// the loader had been switched nobody knows.
    pub(crate) fn again(marker: MarkerFacts) -> Self {
        SlotUpdate {
            previous: marker.previous,
            state: SlotState::Armed,
        }
    }

    /// What an update is that a marker tells of. Only a boot of the other slot proves anything;
    /// where it is not known which one runs, or whether the device was started since, it waits.
    pub(crate) fn found(marker: MarkerFacts, running: Option<OsSlot>) -> Self {
        let state = match (marker.of_this_boot, running) {
            (Some(true), _) | (_, None) => SlotState::Rebooting,
            (_, Some(slot)) if slot == marker.previous.other() => SlotState::Unverified,
            (Some(false), Some(_)) => SlotState::GoingBack,
            // It may not have been started at all since.
            (None, Some(_)) => SlotState::Rebooting,
        };
        SlotUpdate {
            previous: marker.previous,
            state,
        }
    }

    /// The slot that is written.
    pub(crate) fn target(self) -> OsSlot {
        self.previous.other()
    }

    /// What is to be done now. None: nothing, until the device is started or another update begins.
    pub(crate) fn step(self) -> Option<SlotStep> {
        Some(match self.state {
            SlotState::Idle | SlotState::Rebooting => return None,
            SlotState::Forbidding => SlotStep::ForbidSlot(self.target()),
            SlotState::Writing => SlotStep::WriteSlot(self.target()),
            SlotState::Written => SlotStep::WriteMarker,
            SlotState::Armed => SlotStep::SwitchLoader(self.target()),
            SlotState::Unverified => SlotStep::Verify,
            SlotState::Verified => SlotStep::CommitLoader(self.target()),
            SlotState::Committed => SlotStep::ActivateRuntime,
            SlotState::GoingBack => SlotStep::KeepReason,
            SlotState::Withdrawing | SlotState::Restoring => SlotStep::RestoreLoader(self.previous),
            SlotState::Withdrawn | SlotState::Finishing | SlotState::Leaving => {
                SlotStep::RemoveMarker
            }
        })
    }

    /// The step was done.
    #[must_use]
    pub(crate) fn done(self) -> Self {
        let state = match self.state {
            SlotState::Idle | SlotState::Withdrawn | SlotState::Finishing | SlotState::Leaving => {
                SlotState::Idle
            }
            SlotState::Withdrawing => SlotState::Withdrawn,
            SlotState::Forbidding => SlotState::Writing,
            SlotState::Writing => SlotState::Written,
            SlotState::Written => SlotState::Armed,
            SlotState::Armed | SlotState::Rebooting => SlotState::Rebooting,
            SlotState::Unverified => SlotState::Verified,
            SlotState::Verified => SlotState::Committed,
            SlotState::Committed => SlotState::Finishing,
            SlotState::GoingBack => SlotState::Restoring,
            SlotState::Restoring => SlotState::Leaving,
        };
        SlotUpdate { state, ..self }
    }

    /// The step could not be done. None: nothing else can, for now; the same step comes again when the
    /// marker is found the next time, or when the update is asked for again.
    #[must_use]
    pub(crate) fn failed(self) -> Option<Self> {
        let state = match self.state {
            // The loader may know of the slot already.
            SlotState::Armed | SlotState::Unverified => SlotState::GoingBack,
            // A full disk keeps no device in a system that failed.
            SlotState::GoingBack => SlotState::Restoring,
            _ => return None,
        };
        Some(SlotUpdate { state, ..self })
    }
}

#[cfg(test)]
#[path = "slot_policy_tests.rs"]
mod tests;
