//! Clients and commands that wait: what they ask for, and when they get it.

use std::time::Instant;

use super::{QUIET_LIMIT, SleepPolicy};
use crate::supervisor::policy::action::PolicyAction;
use crate::supervisor::policy::open_requests::PendingStop;
use crate::supervisor::policy::request::{Refusal, VmRequest};
use crate::supervisor::policy::state::{PolicyState, StateData, StateReason};

impl SleepPolicy {
    pub(super) fn requested(
        &mut self,
        now: Instant,
        request: VmRequest,
        actions: &mut Vec<PolicyAction>,
    ) {
        use PolicyState::{
            Gone, Hibernated, Pausing, Released, Running, Saving, Starting, Stopping,
        };
        match (request, self.state()) {
            (VmRequest::Stop { .. }, Gone) => actions.push(PolicyAction::Done(request)),
            (VmRequest::Stop { force }, Stopping) => {
                if let StateData::Stopping { forced, .. } = &mut self.state
                    && force
                {
                    *forced = true;
                    actions.push(PolicyAction::ShutDown { force });
                }
            }
            (VmRequest::Stop { force }, _) => {
                let force = force || self.requests.stop == Some(PendingStop { force: true });
                self.requests.stop = Some(PendingStop { force });
                self.cancel_save(actions);
            }
            (_, Gone) => actions.push(PolicyAction::Denied(request, Refusal::Gone)),
            (_, Stopping) => actions.push(PolicyAction::Denied(request, Refusal::Stopping)),
            (VmRequest::Wake, _) => {
                self.requests.wake = true;
                self.clients.note_activity(now);
                self.cancel_save(actions);
            }
            (_, Starting) => actions.push(PolicyAction::Denied(request, Refusal::Starting)),
            (VmRequest::Hibernate, Hibernated | Saving | Released) => {
                actions.push(PolicyAction::Done(request));
            }
            (_, _) if self.clients.keep_awakes() > 0 => {
                actions.push(PolicyAction::Denied(request, Refusal::KeptAwake));
            }
            (VmRequest::Hibernate, _) => self.requests.hibernate = Some(now + QUIET_LIMIT),
            (VmRequest::Release, Released) => actions.push(PolicyAction::Done(request)),
            (VmRequest::Release, _) if self.clients.leases() > 0 => {
                actions.push(PolicyAction::Denied(request, Refusal::InUse));
            }
            (VmRequest::Release, state) => {
                self.requests.release = true;
                if !matches!(state, Pausing | Hibernated | Saving) {
                    self.requests.hibernate.get_or_insert(now + QUIET_LIMIT);
                }
            }
        }
        if self.state() == Running && self.requests.hibernate.is_some() {
            self.deadline_passed(now, actions);
        }
    }

    /// Serves or sends away those who wait, once no command is under way.
    pub(super) fn serve_waiting(&mut self, now: Instant, actions: &mut Vec<PolicyAction>) {
        let steady = matches!(
            self.state(),
            PolicyState::Starting
                | PolicyState::Running
                | PolicyState::Hibernated
                | PolicyState::Released
        );
        if let Some(stop) = self.requests.stop.filter(|_| steady) {
            self.begin_stop(now, stop.force, actions);
            return;
        }
        match self.state {
            StateData::Running => self.serve_running(actions),
            StateData::Hibernated { missed_traffic } if !self.early_resume => {
                self.serve_hibernated(now, missed_traffic, actions);
            }
            StateData::Released => {
                if let Some(reason) = self.why_wanted() {
                    self.begin_restore(now, reason, actions);
                }
                self.requests.finish_hibernate(actions);
                self.requests.finish_release(actions);
            }
            StateData::Stopping { .. } => self.send_away(Refusal::Stopping, actions),
            StateData::Gone => self.send_away(Refusal::Gone, actions),
            // Another client of QEMU paused a guest on its way up, and a client here wants it.
            StateData::Starting
                if self.guest.paused && !self.early_resume && self.why_wanted().is_some() =>
            {
                self.early_resume = true;
                actions.push(PolicyAction::Resume);
            }
            _ => {}
        }
    }

    fn serve_running(&mut self, actions: &mut Vec<PolicyAction>) {
        if self.clients.grant() {
            self.guest.powering_off = false;
            actions.push(PolicyAction::Grant);
        }
        self.requests.finish_wake(actions);
        if self.requests.hibernate.is_none() {
            // It was to be released when another client let it run.
            self.requests.deny_release(Refusal::InUse, actions);
        }
    }

    fn serve_hibernated(
        &mut self,
        now: Instant,
        missed_traffic: bool,
        actions: &mut Vec<PolicyAction>,
    ) {
        self.requests.finish_hibernate(actions);
        let missed = missed_traffic.then_some(StateReason::Traffic);
        if let Some(reason) = self.why_wanted().or(missed) {
            self.requests.deny_release(Refusal::InUse, actions);
            self.enter(now, StateData::Waking, reason);
            self.guest.paused = true;
            actions.push(PolicyAction::Resume);
        } else if self.requests.release {
            if self.clients.leases() > 0 {
                self.requests.deny_release(Refusal::InUse, actions);
            } else {
                self.save(now, StateReason::Requested, actions);
            }
        }
    }

    fn begin_restore(
        &mut self,
        now: Instant,
        reason: StateReason,
        actions: &mut Vec<PolicyAction>,
    ) {
        self.enter(now, StateData::Restoring, reason);
        self.guest.paused = false;
        actions.push(PolicyAction::Restore);
    }

    fn begin_stop(&mut self, now: Instant, force: bool, actions: &mut Vec<PolicyAction>) {
        let released = self.state == StateData::Released;
        if released && !force {
            // What is open in the guest ends as it should: it is brought back for that, and the
            // request waits until it runs.
            self.begin_restore(now, StateReason::Requested, actions);
            return;
        }
        self.requests.stop = None;
        if released {
            actions.push(PolicyAction::Discard);
            self.enter(now, StateData::Gone, StateReason::Requested);
            self.give_up(Refusal::Stopping, actions);
            actions.push(PolicyAction::Done(VmRequest::Stop { force }));
            return;
        }
        self.enter_stopping(now, force, StateReason::Requested);
        self.give_up(Refusal::Stopping, actions);
        actions.push(PolicyAction::ShutDown { force });
    }

    pub(super) fn enter_stopping(&mut self, now: Instant, forced: bool, reason: StateReason) {
        let missed_traffic = self.missed_traffic();
        let state = StateData::Stopping {
            forced,
            missed_traffic,
        };
        self.enter(now, state, reason);
    }

    /// Bytes that reached QEMU while it was being asked to pause, and that the guest has not heard.
    fn missed_traffic(&self) -> bool {
        match self.state {
            StateData::Pausing { missed_traffic }
            | StateData::Hibernated { missed_traffic }
            | StateData::Stopping { missed_traffic, .. } => missed_traffic,
            _ => false,
        }
    }

    /// Why the guest should run, if it should.
    fn why_wanted(&self) -> Option<StateReason> {
        let lane = self.clients.first_waiting().map(StateReason::Connection);
        lane.or(self.requests.wake.then_some(StateReason::Requested))
    }

    /// Refuses every client and command that waits for the guest to run.
    pub(super) fn send_away(&mut self, why: Refusal, actions: &mut Vec<PolicyAction>) {
        if self.clients.refuse() {
            actions.push(PolicyAction::Refuse(why));
        }
        self.requests.deny_wake(why, actions);
    }

    /// Refuses every client and command that waits for anything but the end.
    pub(super) fn give_up(&mut self, why: Refusal, actions: &mut Vec<PolicyAction>) {
        self.send_away(why, actions);
        self.requests.deny_sleep(why, actions);
        if let Some(PendingStop { force }) = self.requests.stop.take() {
            actions.push(PolicyAction::Done(VmRequest::Stop { force }));
        }
    }
}
