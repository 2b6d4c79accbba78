//! What follows once no command is under way: whoever waits is served or sent away.

use std::time::Instant;

use super::{Action, Policy, Reason, Refusal, Request, State};

impl Policy {
    /// Does what became possible.
    pub(super) fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let steady = matches!(
            self.state,
            State::Starting | State::Running | State::Hibernated | State::Released
        );
        if let Some(force) = self.stop.filter(|_| steady) {
            self.stopping(now, force, actions);
            return;
        }
        match self.state {
            State::Running => {
                self.grant(actions);
                if std::mem::take(&mut self.wake) {
                    actions.push(Action::Done(Request::Wake));
                }
                if self.sleep.is_none() {
                    // It was to be released when somebody else let it run.
                    self.deny(Request::Release, Refusal::InUse, actions);
                }
            }
            State::Hibernated if !self.nudging => {
                let wanted = self.wanted();
                let missed = std::mem::take(&mut self.missed).then_some(Reason::Traffic);
                if let Some(reason) = wanted.or(missed) {
                    self.asleep(actions);
                    self.deny(Request::Release, Refusal::InUse, actions);
                    self.enter(now, State::Waking, reason);
                    self.paused = true;
                    actions.push(Action::Resume);
                } else {
                    self.asleep(actions);
                    if self.release {
                        if self.open > 0 {
                            self.deny(Request::Release, Refusal::InUse, actions);
                        } else {
                            self.save(now, Reason::Requested, actions);
                        }
                    }
                }
            }
            State::Released => {
                if let Some(reason) = self.wanted() {
                    self.enter(now, State::Restoring, reason);
                    self.paused = false;
                    actions.push(Action::Restore);
                }
                self.asleep(actions);
                if std::mem::take(&mut self.release) {
                    actions.push(Action::Done(Request::Release));
                }
            }
            State::Stopping => self.send_away(Refusal::Stopping, actions),
            State::Gone => self.send_away(Refusal::Gone, actions),
            // Somebody paused a guest on its way up, and somebody else wants it.
            State::Starting if self.paused && !self.nudging && self.wanted().is_some() => {
                self.nudging = true;
                actions.push(Action::Resume);
            }
            _ => {}
        }
    }

    fn stopping(&mut self, now: Instant, force: bool, actions: &mut Vec<Action>) {
        if self.state == State::Released && !force {
            // What is open in the guest ends as it should: it is brought back for that.
            self.enter(now, State::Restoring, Reason::Requested);
            self.paused = false;
            actions.push(Action::Restore);
            return;
        }
        self.stop = None;
        if self.state == State::Released {
            actions.push(Action::Discard);
            self.enter(now, State::Gone, Reason::Requested);
            self.give_up(Refusal::Stopping, actions);
            actions.push(Action::Done(Request::Stop { force }));
            return;
        }
        self.enter(now, State::Stopping, Reason::Requested);
        self.forced = force;
        self.give_up(Refusal::Stopping, actions);
        actions.push(Action::ShutDown { force });
    }

    /// Why the guest should run, if it should.
    fn wanted(&self) -> Option<Reason> {
        let lane = self.waiting.map(Reason::Connection);
        lane.or(self.wake.then_some(Reason::Requested))
    }

    fn grant(&mut self, actions: &mut Vec<Action>) {
        if self.waiting.take().is_some() {
            self.open += std::mem::take(&mut self.opening);
            self.leaving = false;
            actions.push(Action::Grant);
        }
    }

    /// The guest is paused: whoever asked for that has it.
    fn asleep(&mut self, actions: &mut Vec<Action>) {
        if self.sleep.take().is_some() {
            actions.push(Action::Done(Request::Hibernate));
        }
    }

    /// Sends everybody away who waits for the guest to run.
    pub(super) fn send_away(&mut self, why: Refusal, actions: &mut Vec<Action>) {
        if self.waiting.take().is_some() {
            self.opening = 0;
            actions.push(Action::Refuse(why));
        }
        if std::mem::take(&mut self.wake) {
            actions.push(Action::Denied(Request::Wake, why));
        }
    }

    /// Sends everybody away who waits for anything but the end.
    pub(super) fn give_up(&mut self, why: Refusal, actions: &mut Vec<Action>) {
        self.send_away(why, actions);
        self.deny(Request::Hibernate, why, actions);
        self.deny(Request::Release, why, actions);
        if let Some(force) = self.stop.take() {
            actions.push(Action::Done(Request::Stop { force }));
        }
    }

    pub(super) fn deny(&mut self, request: Request, why: Refusal, actions: &mut Vec<Action>) {
        let asked = match request {
            Request::Hibernate => self.sleep.take().is_some(),
            Request::Release => std::mem::take(&mut self.release),
            Request::Wake | Request::Stop { .. } => false,
        };
        if asked {
            actions.push(Action::Denied(request, why));
        }
    }
}
