//! When the guest sleeps and when it wakes: a state machine without clock, files or processes.
//!
//! Facts go in, each with its instant; actions come out. At most one command to QEMU is under way
//! at any time, and its outcome comes back as a fact. Whether the guest runs is never remembered
//! from what was asked for, but taken from what QEMU says.

use std::time::{Duration, Instant};

mod settle;
mod words;

#[cfg(test)]
mod tests;

pub(crate) use words::{Action, Fact, Lane, Reason, Refusal, Request, Settings, State};

/// A request to sleep waits until open connections were silent for this long.
const QUIET: Duration = Duration::from_millis(100);
/// And for this long at most.
const QUIET_LIMIT: Duration = Duration::from_secs(5);

/// How far QEMU is with ending because the memory is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quitting {
    Begun,
    /// The memory counts; the end of QEMU is still to be told.
    Done,
    /// QEMU ended; whether the memory counts is still to be told.
    Ended,
}

/// The state machine of one VM.
#[derive(Debug)]
pub(crate) struct Policy {
    settings: Settings,
    state: State,
    reason: Reason,
    /// Whether QEMU says that the guest is paused.
    paused: bool,
    /// Leases that were granted and not dropped.
    open: u64,
    /// Clients that wait for a lease.
    opening: u64,
    /// Who waits first: for a lease, or to be heard on an open connection.
    waiting: Option<Lane>,
    /// The last activity.
    active: Instant,
    /// Since when it is in this state.
    since: Instant,
    /// The last look at the guest's work.
    looked: Instant,
    looking: bool,
    /// Somebody asked to wake the guest, and waits.
    wake: bool,
    /// Somebody asked to pause it, and waits until this instant at most.
    sleep: Option<Instant>,
    /// Somebody asked to release the memory, and waits.
    release: bool,
    /// Somebody asked to stop; not yet begun.
    stop: Option<bool>,
    /// Traffic while QEMU was being asked to pause.
    missed: bool,
    /// The memory could not be saved since the guest last ran; it is not tried again by itself.
    unsaved: bool,
    /// QEMU is ending because the memory is saved.
    quitting: Option<Quitting>,
    /// Whether the guest has answered since it booted.
    up: bool,
    /// The guest was told to power off, and may still do so. It is not paused on the way, until
    /// somebody uses it again.
    leaving: bool,
    /// QEMU is being asked to let a guest go on that somebody paused while it started.
    nudging: bool,
    /// It is being ended without asking the guest, which always succeeds.
    forced: bool,
}

impl Policy {
    /// A VM whose QEMU was just started.
    pub(crate) fn new(settings: Settings, now: Instant) -> Self {
        Policy {
            settings,
            state: State::Starting,
            reason: Reason::Start,
            paused: false,
            open: 0,
            opening: 0,
            waiting: None,
            active: now,
            since: now,
            looked: now,
            looking: false,
            wake: false,
            sleep: None,
            release: false,
            stop: None,
            missed: false,
            unsaved: false,
            quitting: None,
            up: false,
            leaving: false,
            nudging: false,
            forced: false,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether QEMU says that the guest is paused.
    pub(crate) fn paused(&self) -> bool {
        self.paused
    }

    /// Whether the guest has answered since it booted.
    pub(crate) fn is_up(&self) -> bool {
        self.up
    }

    /// Granted leases.
    pub(crate) fn open(&self) -> u64 {
        self.open
    }

    /// Whether the answer to [`Action::Look`] is still to come.
    pub(crate) fn looking(&self) -> bool {
        self.looking
    }

    /// Whether somebody waits for the guest to be paused.
    pub(crate) fn hurried(&self) -> bool {
        self.sleep.is_some()
    }

    /// The last activity.
    pub(crate) fn active(&self) -> Instant {
        self.active
    }

    /// Takes a fact; says what to do, in order.
    pub(crate) fn on(&mut self, now: Instant, fact: Fact) -> Vec<Action> {
        let mut actions = Vec::new();
        self.take(now, fact, &mut actions);
        self.settle(now, &mut actions);
        actions
    }

    /// When [`Fact::Timer`] is due, if nothing else happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            // One command at a time.
            _ if self.nudging => None,
            State::Running => match self.sleep {
                Some(limit) => Some(limit.min(self.active + QUIET)),
                None if self.looking => None,
                None => self.next_look(),
            },
            State::Hibernated => {
                let may = self.open == 0 && !self.unsaved;
                let after = self.settings.release_after.filter(|_| may)?;
                Some(self.since + after)
            }
            _ => None,
        }
    }

    /// When the guest falls asleep, if nothing happens.
    fn due(&self) -> Option<Instant> {
        let idle = self.settings.hibernate_after.filter(|_| !self.leaving)?;
        let limit = match self.open {
            0 => idle,
            _ => self.settings.silent?.max(idle),
        };
        Some(self.active + limit)
    }

    fn next_look(&self) -> Option<Instant> {
        let due = self.due()?;
        if !self.looks() {
            return Some(due);
        }
        let idle = self.settings.hibernate_after?;
        Some(due.min(self.active.max(self.looked) + idle))
    }

    /// Whether the guest's own work counts.
    fn looks(&self) -> bool {
        self.open > 0 || self.settings.containers
    }

    fn enter(&mut self, now: Instant, state: State, reason: Reason) {
        self.state = state;
        self.reason = reason;
        self.since = now;
    }

    fn run(&mut self, now: Instant, reason: Reason) {
        self.enter(now, State::Running, reason);
        self.active = now;
        self.looked = now;
        self.paused = false;
        self.unsaved = false;
        self.missed = false;
    }

    fn sleep(&mut self, now: Instant, reason: Reason) {
        self.enter(now, State::Hibernated, reason);
        self.paused = true;
    }

    fn take(&mut self, now: Instant, fact: Fact, actions: &mut Vec<Action>) {
        match fact {
            Fact::Ready => {
                self.up = true;
                if self.state == State::Starting {
                    let paused = self.paused;
                    self.run(now, Reason::Start);
                    if paused {
                        self.sleep(now, Reason::External);
                    }
                }
            }
            Fact::Adopted { paused } => {
                self.up = true;
                self.run(now, Reason::Adopted);
                if paused {
                    self.sleep(now, Reason::Adopted);
                }
            }
            Fact::Opened(lane) => {
                self.opening += 1;
                self.waiting.get_or_insert(lane);
                self.active = now;
                self.hurry(actions);
            }
            Fact::Wanted(lane) => {
                self.waiting.get_or_insert(lane);
                self.active = now;
                self.hurry(actions);
            }
            Fact::Closed => {
                self.open = self.open.saturating_sub(1);
                self.active = now;
            }
            Fact::Traffic(at) => {
                if at > self.active {
                    self.active = at;
                    self.missed |= self.state == State::Pausing;
                }
            }
            Fact::Work { busy } => {
                self.looking = false;
                self.looked = now;
                if busy {
                    self.active = now;
                } else if self.due().is_some_and(|due| now >= due) {
                    self.pause(now, Reason::Idle, actions);
                }
            }
            Fact::Timer => self.timer(now, actions),
            Fact::Paused => {
                self.paused = true;
                if self.state == State::Running {
                    self.sleep(now, Reason::External);
                }
            }
            Fact::Resumed => {
                self.paused = false;
                if self.state == State::Hibernated {
                    self.run(now, Reason::External);
                    actions.push(Action::AfterWake);
                }
            }
            Fact::Reset => {
                self.leaving = false;
                if self.state == State::Running {
                    actions.push(Action::SetUp);
                }
            }
            Fact::Shutdown { by_guest } => {
                if !matches!(self.state, State::Stopping | State::Saving | State::Gone) {
                    let reason = if by_guest {
                        Reason::Guest
                    } else {
                        Reason::External
                    };
                    self.enter(now, State::Stopping, reason);
                    self.give_up(Refusal::Stopping, actions);
                }
            }
            Fact::Exited => self.exited(now, actions),
            Fact::PauseDone { paused } => {
                if self.state == State::Pausing {
                    if paused {
                        self.sleep(now, self.reason);
                    } else {
                        self.run(now, Reason::Failure);
                        self.deny(Request::Hibernate, Refusal::NotPaused, actions);
                        self.deny(Request::Release, Refusal::NotPaused, actions);
                    }
                }
            }
            Fact::ResumeDone { running } => {
                if std::mem::take(&mut self.nudging) && !running {
                    self.send_away(Refusal::NotWoken, actions);
                }
                if self.state == State::Waking {
                    if running {
                        self.run(now, self.reason);
                        actions.push(Action::AfterWake);
                    } else {
                        self.sleep(now, Reason::Failure);
                        self.send_away(Refusal::NotWoken, actions);
                    }
                }
            }
            // Somebody may have let it run in the meantime.
            Fact::SaveDone { saved, paused } => {
                self.saved(now, saved, paused && self.paused, actions);
            }
            Fact::QuitDone { saved } => match (self.state, self.quitting, saved) {
                (State::Saving, Some(Quitting::Ended), true) => self.released(now),
                (State::Saving, Some(Quitting::Ended), false) => self.gone(now, actions),
                (State::Saving, _, true) => self.quitting = Some(Quitting::Done),
                (State::Saving, _, false) => self.saved(now, false, self.paused, actions),
                _ => {}
            },
            Fact::Restored => {
                if self.state == State::Restoring {
                    let paused = self.paused;
                    self.run(now, self.reason);
                    actions.push(Action::AfterWake);
                    if paused {
                        self.sleep(now, Reason::External);
                    }
                }
            }
            Fact::Rebooted => {
                if self.state == State::Restoring {
                    self.up = false;
                    self.enter(now, State::Starting, self.reason);
                }
            }
            Fact::RestoreFailed { kept } => {
                if self.state == State::Restoring {
                    if kept {
                        self.enter(now, State::Released, Reason::Failure);
                        self.send_away(Refusal::NotRestored, actions);
                        if let Some(force) = self.stop.take() {
                            let request = Request::Stop { force };
                            actions.push(Action::Denied(request, Refusal::NotRestored));
                        }
                    } else {
                        self.enter(now, State::Gone, Reason::Failure);
                        self.give_up(Refusal::NotRestored, actions);
                    }
                }
            }
            Fact::StopFailed => {
                if self.state == State::Stopping && !self.forced {
                    let paused = self.paused;
                    self.leaving = true;
                    if !self.up {
                        self.enter(now, State::Starting, Reason::Failure);
                    } else if paused {
                        self.sleep(now, Reason::Failure);
                    } else {
                        self.run(now, Reason::Failure);
                    }
                    let request = Request::Stop { force: false };
                    actions.push(Action::Denied(request, Refusal::NotStopped));
                }
            }
            Fact::Asked(request) => self.asked(now, request, actions),
        }
    }

    fn timer(&mut self, now: Instant, actions: &mut Vec<Action>) {
        // An early timer is one for a deadline that moved.
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match (self.state, self.sleep) {
            (State::Running, Some(limit)) => {
                if now >= self.active + QUIET {
                    self.pause(now, Reason::Requested, actions);
                } else if now >= limit {
                    self.deny(Request::Hibernate, Refusal::InUse, actions);
                    self.deny(Request::Release, Refusal::InUse, actions);
                }
            }
            (State::Running, None) if self.looks() => {
                self.looking = true;
                actions.push(Action::Look);
            }
            (State::Running, None) => self.pause(now, Reason::Idle, actions),
            (State::Hibernated, _) => self.save(now, Reason::Idle, actions),
            _ => {}
        }
    }

    fn pause(&mut self, now: Instant, reason: Reason, actions: &mut Vec<Action>) {
        if self.state == State::Running && !self.nudging {
            self.enter(now, State::Pausing, reason);
            self.missed = false;
            actions.push(Action::Pause);
        }
    }

    fn save(&mut self, now: Instant, reason: Reason, actions: &mut Vec<Action>) {
        self.enter(now, State::Saving, reason);
        self.quitting = None;
        actions.push(Action::Save);
    }

    /// A save that is under way is wanted no more.
    fn hurry(&self, actions: &mut Vec<Action>) {
        if self.state == State::Saving && self.quitting.is_none() {
            actions.push(Action::HurrySave);
        }
    }

    fn saved(&mut self, now: Instant, saved: bool, paused: bool, actions: &mut Vec<Action>) {
        if self.state != State::Saving {
            return;
        }
        let wanted = self.waiting.is_some() || self.wake || self.stop.is_some();
        if saved && paused && !wanted {
            self.quitting = Some(Quitting::Begun);
            actions.push(Action::Quit);
            return;
        }
        self.quitting = None;
        actions.push(Action::Discard);
        self.deny(Request::Release, Refusal::NotSaved, actions);
        if paused {
            self.sleep(now, self.reason);
            self.unsaved = !wanted;
        } else {
            self.run(now, self.reason);
            actions.push(Action::AfterWake);
        }
    }

    fn exited(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            State::Gone | State::Released | State::Restoring => {}
            // Released once both are told: that the memory counts, and the end of QEMU.
            State::Saving if self.quitting == Some(Quitting::Done) => self.released(now),
            State::Saving if self.quitting.is_some() => self.quitting = Some(Quitting::Ended),
            State::Stopping => {
                self.enter(now, State::Gone, self.reason);
                self.give_up(Refusal::Stopping, actions);
                actions.push(Action::Done(Request::Stop { force: false }));
            }
            _ => self.gone(now, actions),
        }
    }

    fn released(&mut self, now: Instant) {
        self.enter(now, State::Released, self.reason);
        self.quitting = None;
    }

    fn gone(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.enter(now, State::Gone, Reason::Exit);
        self.give_up(Refusal::Gone, actions);
    }

    fn asked(&mut self, now: Instant, request: Request, actions: &mut Vec<Action>) {
        use State::{Gone, Hibernated, Pausing, Released, Running, Saving, Starting, Stopping};
        match (request, self.state) {
            (Request::Stop { .. }, Gone) => actions.push(Action::Done(request)),
            (Request::Stop { force: true }, Stopping) => {
                self.forced = true;
                actions.push(Action::ShutDown { force: true });
            }
            (Request::Stop { .. }, Stopping) => {}
            (Request::Stop { force }, _) => {
                self.stop = Some(force || self.stop == Some(true));
                self.hurry(actions);
            }
            (_, Gone) => actions.push(Action::Denied(request, Refusal::Gone)),
            (_, Stopping) => actions.push(Action::Denied(request, Refusal::Stopping)),
            (Request::Wake, _) => {
                self.wake = true;
                self.active = now;
                self.hurry(actions);
            }
            (_, Starting) => actions.push(Action::Denied(request, Refusal::Starting)),
            (Request::Hibernate, Hibernated | Saving | Released) => {
                actions.push(Action::Done(request));
            }
            (Request::Hibernate, _) => self.sleep = Some(now + QUIET_LIMIT),
            (Request::Release, Released) => actions.push(Action::Done(request)),
            (Request::Release, _) if self.open > 0 => {
                actions.push(Action::Denied(request, Refusal::InUse));
            }
            (Request::Release, state) => {
                self.release = true;
                if !matches!(state, Pausing | Hibernated | Saving) {
                    self.sleep.get_or_insert(now + QUIET_LIMIT);
                }
            }
        }
        if self.state == Running && self.sleep.is_some() {
            self.timer(now, actions);
        }
    }
}
