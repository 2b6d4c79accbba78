//! The life of an update of the operating system: which step comes next, and what follows from how it
//! ended. There is no reading and no writing in here, so that the tests can try it in every world.
//!
//! ```text
//!            ┌────────── an update that waits is given up ◄───────────┐
//!            ▼                                                        │
//! idle ─► forbidden ─► written ─► marked ─► loader switched ─► waits for the reboot
//!                                                                     │
//!                 the other slot runs, verified ◄─────────────────────┤
//!                              │                                      │ not verified, or another slot
//!                              ▼                                      ▼
//!                     boot counted, on trial ─────────────────► reason kept ─► loader goes back
//!                              │         unhealthy, or started                        │
//!                              ▼ healthy   too often without a word                   ▼
//!        idle ◄─ marker removed ◄─ runtime active ◄─ loader keeps it          marker removed ─► idle
//! ```
//!
//! Where nothing in the system asks for its health, what is verified is kept at once.
//!
//! What outlives a cut of the power are the slots, the boot loader and the marker
//! (`pending-update.json`). The marker is there before the loader is told anything, and is the last
//! thing that goes: while the loader may start the slot that was written, the device knows why.

use avocado_manifest::os_bundle::OsSlot;

/// How many boots on trial an update has, none of which was found healthy, before the device goes back.
pub(super) const TRIAL_BOOTS: u32 = 3;

/// Where an update is. Each state but those that wait has one step.
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
    /// It is what was written, and its health will be asked for: this boot is counted.
    Counting,
    /// The boot is counted. All that can be done has been done, until its health is known.
    OnTrial,
    /// It has proven itself: the loader is told to keep it.
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
    /// Note in the marker that this boot is on trial, lastingly.
    CountBoot,
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
    /// Whether the system has something that asks for its health.
    health_decides: bool,
}

/// What a marker says that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MarkerFacts {
    /// The slot that ran when it was made.
    pub(crate) previous: OsSlot,
    /// Whether it was made since the device was started. Not known of those that older agents made.
    pub(crate) of_this_boot: Option<bool>,
    /// How many boots have been on trial.
    pub(crate) trial_boots: u32,
    /// Whether this boot is one of them.
    pub(crate) on_trial: bool,
    /// Whether one of them was found healthy: a cut kept the rest from being done.
    pub(crate) healthy: bool,
}

impl SlotUpdate {
    /// A new update, while `running` runs. No other one waits for the reboot.
    pub(crate) fn begin(running: OsSlot) -> Self {
        SlotUpdate::at(running, SlotState::Forbidding)
    }

    fn at(previous: OsSlot, state: SlotState) -> Self {
        SlotUpdate {
            previous,
            state,
            health_decides: false,
        }
    }

    /// An update is not wanted any more. It is the slot that runs that has to be started from now on:
    /// after a reboot that may be the one that was written, and the other one is written next.
    pub(crate) fn withdraw(running: OsSlot) -> Self {
        SlotUpdate::at(running, SlotState::Withdrawing)
    }

    /// The same update again, as its marker is there and the device was not started since: whether
    /// the loader had been switched nobody knows.
    pub(crate) fn again(marker: MarkerFacts) -> Self {
        SlotUpdate::at(marker.previous, SlotState::Armed)
    }

    /// What an update is that a marker tells of. Only a boot of the other slot proves anything;
    /// where it is not known which one runs, or whether the device was started since, it waits.
    /// `health_decides`: the system has something that asks for its health.
    pub(crate) fn found(
        marker: MarkerFacts,
        running: Option<OsSlot>,
        health_decides: bool,
    ) -> Self {
        let state = match (marker.of_this_boot, running) {
            (Some(true), _) | (_, None) => SlotState::Rebooting,
            (_, Some(slot)) if slot == marker.previous.other() => match marker {
                marker if marker.on_trial => SlotState::OnTrial,
                marker if marker.healthy => SlotState::Verified,
                marker if health_decides && marker.trial_boots >= TRIAL_BOOTS => {
                    SlotState::GoingBack
                }
                _ => SlotState::Unverified,
            },
            (Some(false), Some(_)) => SlotState::GoingBack,
            // It may not have been started at all since.
            (None, Some(_)) => SlotState::Rebooting,
        };
        SlotUpdate {
            health_decides,
            ..SlotUpdate::at(marker.previous, state)
        }
    }

    /// The health of a boot on trial is known. None: none is on trial.
    pub(crate) fn judged(self, healthy: bool) -> Option<Self> {
        let state = match (self.state, healthy) {
            (SlotState::OnTrial, true) => SlotState::Verified,
            (SlotState::OnTrial, false) => SlotState::GoingBack,
            _ => return None,
        };
        Some(SlotUpdate { state, ..self })
    }

    /// The slot that is written.
    pub(crate) fn target(self) -> OsSlot {
        self.previous.other()
    }

    /// What is to be done now. None: nothing, until the device is started or another update begins.
    pub(crate) fn step(self) -> Option<SlotStep> {
        Some(match self.state {
            SlotState::Idle | SlotState::Rebooting | SlotState::OnTrial => return None,
            SlotState::Forbidding => SlotStep::ForbidSlot(self.target()),
            SlotState::Writing => SlotStep::WriteSlot(self.target()),
            SlotState::Written => SlotStep::WriteMarker,
            SlotState::Armed => SlotStep::SwitchLoader(self.target()),
            SlotState::Unverified => SlotStep::Verify,
            SlotState::Counting => SlotStep::CountBoot,
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
            SlotState::Unverified if self.health_decides => SlotState::Counting,
            SlotState::Unverified => SlotState::Verified,
            SlotState::Counting | SlotState::OnTrial => SlotState::OnTrial,
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
