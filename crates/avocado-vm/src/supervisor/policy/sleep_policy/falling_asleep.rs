//! When the guest is to sleep, and how it gets there.

use std::time::Instant;

use super::{QUIET, SleepPolicy, WorkCheck};
use crate::supervisor::policy::action::PolicyAction;
use crate::supervisor::policy::request::Refusal;
use crate::supervisor::policy::state::{SaveProgress, StateData, StateReason};

impl SleepPolicy {
    /// When [`PolicyEvent::DeadlinePassed`] is due, if nothing else happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            // One command at a time.
            _ if self.early_resume => None,
            StateData::Running => match self.requests.hibernate {
                Some(limit) => Some(limit.min(self.last_activity() + QUIET)),
                None if self.work.pending => None,
                None => self.next_check(),
            },
            StateData::Hibernated { .. } => {
                let wanted = self.clients.leases() > 0 || self.clients.keep_awakes() > 0;
                let may = !wanted && !self.guest.save_failed;
                let after = self.settings.release_after.filter(|_| may)?;
                Some(self.since + after)
            }
            _ => None,
        }
    }

    /// When the guest falls asleep, or its work is looked at before.
    fn next_check(&self) -> Option<Instant> {
        let due = self.sleep_due()?;
        if !self.settings.counts_work(self.clients.leases()) {
            return Some(due);
        }
        let idle = self.settings.hibernate_after?;
        Some(due.min(self.last_activity().max(self.work.at) + idle))
    }

    /// When the guest falls asleep, if nothing happens.
    pub(super) fn sleep_due(&self) -> Option<Instant> {
        if self.guest.powering_off || self.clients.keep_awakes() > 0 {
            return None;
        }
        let (activity, leases) = (self.last_activity(), self.clients.leases());
        let due = self.settings.sleep_due(activity, leases)?;
        Some(due.max(self.clients.answering_until()))
    }

    pub(super) fn deadline_passed(&mut self, now: Instant, actions: &mut Vec<PolicyAction>) {
        // An early timer is one for a deadline that moved.
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match (self.state, self.requests.hibernate) {
            (StateData::Running, Some(limit)) => {
                if now >= self.last_activity() + QUIET {
                    self.pause(now, StateReason::Requested, actions);
                } else if now >= limit {
                    self.requests.deny_sleep(Refusal::InUse, actions);
                }
            }
            (StateData::Running, None) => {
                if self.settings.counts_work(self.clients.leases()) {
                    self.work.pending = true;
                    actions.push(PolicyAction::CheckWork);
                } else {
                    self.pause(now, StateReason::Idle, actions);
                }
            }
            (StateData::Hibernated { .. }, _) => self.save(now, StateReason::Idle, actions),
            _ => {}
        }
    }

    pub(super) fn traffic(&mut self, at: Instant) {
        if at > self.last_activity() {
            self.clients.note_activity(at);
            self.up_for_a_sign = false;
            if let StateData::Pausing { missed_traffic } = &mut self.state {
                *missed_traffic = true;
                self.missed_only_signs = false;
            }
        }
    }

    pub(super) fn sign_of_life(&mut self, at: Instant) {
        if self.clients.note_sign(at)
            && let StateData::Pausing { missed_traffic } = &mut self.state
        {
            self.missed_only_signs |= !*missed_traffic;
            *missed_traffic = true;
        }
    }

    pub(super) fn work_checked(
        &mut self,
        now: Instant,
        busy: bool,
        actions: &mut Vec<PolicyAction>,
    ) {
        self.work = WorkCheck {
            at: now,
            pending: false,
        };
        if busy {
            self.clients.note_activity(now);
        } else if self.sleep_due().is_some_and(|due| now >= due) {
            self.pause(now, StateReason::Idle, actions);
        }
    }

    pub(super) fn pause(
        &mut self,
        now: Instant,
        reason: StateReason,
        actions: &mut Vec<PolicyAction>,
    ) {
        if self.state == StateData::Running && !self.early_resume {
            let missed_traffic = false;
            self.missed_only_signs = false;
            self.enter(now, StateData::Pausing { missed_traffic }, reason);
            actions.push(PolicyAction::Pause);
        }
    }

    pub(super) fn save(
        &mut self,
        now: Instant,
        reason: StateReason,
        actions: &mut Vec<PolicyAction>,
    ) {
        self.enter(now, StateData::Saving(SaveProgress::Writing), reason);
        actions.push(PolicyAction::Save);
    }

    /// A save that is under way is wanted no more.
    pub(super) fn cancel_save(&self, actions: &mut Vec<PolicyAction>) {
        if self.state == StateData::Saving(SaveProgress::Writing) {
            actions.push(PolicyAction::CancelSave);
        }
    }
}
