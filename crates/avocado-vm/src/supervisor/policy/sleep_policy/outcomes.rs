//! What came of the commands to QEMU, and what it does of itself.

use std::time::Instant;

use super::SleepPolicy;
use crate::supervisor::policy::action::PolicyAction;
use crate::supervisor::policy::open_requests::PendingStop;
use crate::supervisor::policy::request::{Refusal, VmRequest};
use crate::supervisor::policy::state::{SaveProgress, StateData, StateReason};

impl SleepPolicy {
    pub(super) fn pause_done(
        &mut self,
        now: Instant,
        paused: bool,
        actions: &mut Vec<PolicyAction>,
    ) {
        let StateData::Pausing { missed_traffic } = self.state else {
            return;
        };
        if paused {
            self.sleep(now, missed_traffic, self.reason);
        } else {
            self.run(now, StateReason::Failure);
            self.requests.deny_sleep(Refusal::NotPaused, actions);
        }
    }

    pub(super) fn resume_done(
        &mut self,
        now: Instant,
        running: bool,
        actions: &mut Vec<PolicyAction>,
    ) {
        if std::mem::take(&mut self.early_resume) && !running {
            self.send_away(Refusal::NotWoken, actions);
        }
        if self.state != StateData::Waking {
            return;
        }
        if running {
            self.run(now, self.reason);
            actions.push(PolicyAction::AfterWake);
        } else {
            self.sleep(now, false, StateReason::Failure);
            self.send_away(Refusal::NotWoken, actions);
        }
    }

    pub(super) fn save_done(
        &mut self,
        now: Instant,
        saved: bool,
        paused: bool,
        actions: &mut Vec<PolicyAction>,
    ) {
        let StateData::Saving(progress) = &mut self.state else {
            return;
        };
        let wanted = self.clients.first_waiting().is_some()
            || self.requests.wake
            || self.requests.stop.is_some();
        if saved && paused && !wanted {
            *progress = SaveProgress::Quitting;
            actions.push(PolicyAction::Quit);
            return;
        }
        actions.push(PolicyAction::Discard);
        self.requests.deny_release(Refusal::NotSaved, actions);
        if paused {
            self.sleep(now, false, self.reason);
            self.guest.save_failed = !wanted;
        } else {
            self.run(now, self.reason);
            actions.push(PolicyAction::AfterWake);
        }
    }

    pub(super) fn quit_done(&mut self, now: Instant, saved: bool, actions: &mut Vec<PolicyAction>) {
        match (self.state, saved) {
            (StateData::Saving(SaveProgress::QemuEnded), true) => self.released(now),
            (StateData::Saving(SaveProgress::QemuEnded), false) => self.gone(now, actions),
            (StateData::Saving(_), true) => self.state = StateData::Saving(SaveProgress::Counts),
            (StateData::Saving(_), false) => self.save_done(now, false, self.guest.paused, actions),
            _ => {}
        }
    }

    pub(super) fn restore_failed(
        &mut self,
        now: Instant,
        kept: bool,
        actions: &mut Vec<PolicyAction>,
    ) {
        if self.state != StateData::Restoring {
            return;
        }
        if !kept {
            self.enter(now, StateData::Gone, StateReason::Failure);
            self.give_up(Refusal::NotRestored, actions);
            return;
        }
        self.enter(now, StateData::Released, StateReason::Failure);
        self.send_away(Refusal::NotRestored, actions);
        if let Some(PendingStop { force }) = self.requests.stop.take() {
            let request = VmRequest::Stop { force };
            actions.push(PolicyAction::Denied(request, Refusal::NotRestored));
        }
    }

    pub(super) fn stop_failed(&mut self, now: Instant, actions: &mut Vec<PolicyAction>) {
        let StateData::Stopping {
            forced: false,
            missed_traffic,
        } = self.state
        else {
            return;
        };
        self.guest.powering_off = true;
        if !self.guest.answered {
            self.enter(now, StateData::Starting, StateReason::Failure);
        } else if self.guest.paused {
            self.sleep(now, missed_traffic, StateReason::Failure);
        } else {
            self.run(now, StateReason::Failure);
        }
        let request = VmRequest::Stop { force: false };
        actions.push(PolicyAction::Denied(request, Refusal::NotStopped));
    }

    pub(super) fn shutting_down(
        &mut self,
        now: Instant,
        by_guest: bool,
        actions: &mut Vec<PolicyAction>,
    ) {
        if matches!(
            self.state,
            StateData::Stopping { .. } | StateData::Saving(_) | StateData::Gone
        ) {
            return;
        }
        let reason = if by_guest {
            StateReason::Guest
        } else {
            StateReason::External
        };
        self.enter_stopping(now, false, reason);
        self.give_up(Refusal::Stopping, actions);
    }

    pub(super) fn exited(&mut self, now: Instant, actions: &mut Vec<PolicyAction>) {
        match self.state {
            StateData::Gone | StateData::Released | StateData::Restoring => {}
            // Released once both are told: that the memory counts, and the end of QEMU.
            StateData::Saving(SaveProgress::Counts) => self.released(now),
            StateData::Saving(SaveProgress::Quitting | SaveProgress::QemuEnded) => {
                self.state = StateData::Saving(SaveProgress::QemuEnded);
            }
            StateData::Stopping { .. } => {
                self.enter(now, StateData::Gone, self.reason);
                self.give_up(Refusal::Stopping, actions);
                actions.push(PolicyAction::Done(VmRequest::Stop { force: false }));
            }
            _ => self.gone(now, actions),
        }
    }

    fn released(&mut self, now: Instant) {
        self.enter(now, StateData::Released, self.reason);
    }

    fn gone(&mut self, now: Instant, actions: &mut Vec<PolicyAction>) {
        self.enter(now, StateData::Gone, StateReason::Exit);
        self.give_up(Refusal::Gone, actions);
    }
}
