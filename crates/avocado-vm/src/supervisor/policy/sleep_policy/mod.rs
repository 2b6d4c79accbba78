//! The state machine itself: what it knows, and which event goes where.

mod falling_asleep;
mod outcomes;
mod serving;

use std::time::{Duration, Instant};

use super::action::PolicyAction;
use super::clients::Clients;
use super::event::PolicyEvent;
use super::open_requests::{OpenRequests, PendingStop};
use super::request::{Refusal, VmRequest};
use super::settings::SleepSettings;
use super::state::{PolicyState, StateData, StateReason};

/// A request to sleep waits until open connections were silent for this long.
pub(in crate::supervisor::policy) const QUIET: Duration = Duration::from_millis(100);
/// And for this long at most.
pub(in crate::supervisor::policy) const QUIET_LIMIT: Duration = Duration::from_secs(5);

/// The state machine of one VM.
#[derive(Debug)]
pub(crate) struct SleepPolicy {
    settings: SleepSettings,
    state: StateData,
    reason: StateReason,
    /// Since when it is in this state.
    since: Instant,
    guest: GuestFacts,
    clients: Clients,
    requests: OpenRequests,
    work: WorkCheck,
    /// The guest was woken for a sign of life, and nothing more has happened since.
    up_for_a_sign: bool,
    /// What QEMU was asked to pause over, and the guest has not heard, are signs of life alone.
    missed_only_signs: bool,
    /// QEMU is being asked to let a guest go on that another client paused while it started: the
    /// one command that a change of the state does not end.
    early_resume: bool,
}

/// What is known of the guest, whatever the state.
#[derive(Debug, Default)]
struct GuestFacts {
    /// Whether QEMU says that it is paused.
    paused: bool,
    /// Whether it has answered since it booted.
    answered: bool,
    /// It started anew, and is to be waited for as soon as it runs.
    rebooted: bool,
    /// It was told to power off, and may still do so. It is not paused on the way, until a client
    /// uses it again.
    powering_off: bool,
    /// Its memory could not be saved since it last ran; that is not tried again by itself.
    save_failed: bool,
}

/// The last look at the guest's work.
#[derive(Debug)]
struct WorkCheck {
    at: Instant,
    /// Its answer is still to come.
    pending: bool,
}

impl SleepPolicy {
    /// A VM whose QEMU was just started.
    pub(crate) fn new(settings: SleepSettings, now: Instant) -> Self {
        SleepPolicy {
            settings,
            state: StateData::Starting,
            reason: StateReason::Start,
            since: now,
            guest: GuestFacts::default(),
            clients: Clients::new(now),
            requests: OpenRequests::default(),
            work: WorkCheck {
                at: now,
                pending: false,
            },
            up_for_a_sign: false,
            missed_only_signs: false,
            early_resume: false,
        }
    }

    /// What commands ask for of all that was asked for: the others gave up. A signal to stop waits for no answer.
    pub(crate) fn keep_requests(&mut self, asked: &[VmRequest], is_signalled: bool) {
        let is_asked = |is: fn(&VmRequest) -> bool| asked.iter().any(is);
        let is_stop_asked = is_asked(|request| matches!(request, VmRequest::Stop { .. }));
        let force = is_asked(|request| *request == VmRequest::Stop { force: true });
        self.requests.stop = self
            .requests
            .stop
            .filter(|_| is_signalled || is_stop_asked)
            .map(|_| PendingStop { force });
        self.requests.wake &= is_asked(|request| *request == VmRequest::Wake);
        self.requests.release &= is_asked(|request| *request == VmRequest::Release);
        if !self.requests.release && !is_asked(|request| *request == VmRequest::Hibernate) {
            self.requests.hibernate = None;
        }
    }

    /// Whether the guest runs for a sign of life alone: what it does right after a wake says nothing.
    pub(crate) fn is_up_for_a_sign(&self) -> bool {
        self.up_for_a_sign
    }

    /// Other settings count from now on, also for the time that has passed already.
    pub(crate) fn change_settings(&mut self, settings: SleepSettings) {
        self.settings = settings;
    }

    pub(crate) fn state(&self) -> PolicyState {
        self.state.kind()
    }

    pub(crate) fn reason(&self) -> StateReason {
        self.reason
    }

    /// Whether QEMU says that the guest is paused.
    pub(crate) fn is_paused(&self) -> bool {
        self.guest.paused
    }

    /// Whether the guest has answered since it booted.
    pub(crate) fn has_answered(&self) -> bool {
        self.guest.answered
    }

    /// Granted leases.
    pub(crate) fn open_leases(&self) -> u64 {
        self.clients.leases()
    }

    /// Commands that keep the guest awake.
    pub(crate) fn keep_awakes(&self) -> u64 {
        self.clients.keep_awakes()
    }

    /// Whether the answer to [`PolicyAction::CheckWork`] is still to come.
    pub(crate) fn is_checking_work(&self) -> bool {
        self.work.pending
    }

    /// Whether a stop is still to begin.
    pub(crate) fn is_stop_requested(&self) -> bool {
        self.requests.stop.is_some()
    }

    /// Whether a command waits for the guest to be paused.
    pub(crate) fn is_sleep_requested(&self) -> bool {
        self.requests.hibernate.is_some()
    }

    pub(crate) fn last_activity(&self) -> Instant {
        self.clients.last_activity()
    }

    /// Takes an event; says what to do, in order.
    pub(crate) fn on(&mut self, now: Instant, event: PolicyEvent) -> Vec<PolicyAction> {
        let mut actions = Vec::new();
        self.take(now, event, &mut actions);
        self.follow_reboot(now, &mut actions);
        self.serve_waiting(now, &mut actions);
        actions
    }

    fn enter(&mut self, now: Instant, state: StateData, reason: StateReason) {
        self.state = state;
        self.reason = reason;
        self.since = now;
    }

    /// The guest runs.
    fn run(&mut self, now: Instant, reason: StateReason) {
        self.enter(now, StateData::Running, reason);
        let of_sign = match reason {
            StateReason::Connection(_) => self.clients.only_signs_wait(),
            StateReason::Traffic => self.missed_only_signs,
            _ => false,
        };
        self.up_for_a_sign = of_sign && !self.requests.wake;
        if self.up_for_a_sign {
            self.clients.note_sign(now);
        } else {
            self.clients.note_activity(now);
        }
        self.missed_only_signs = false;
        self.work = WorkCheck {
            at: now,
            pending: false,
        };
        self.guest.paused = false;
        self.guest.save_failed = false;
    }

    /// A guest that started anew is waited for as after a start: until it answers no client is let in.
    fn follow_reboot(&mut self, now: Instant, actions: &mut Vec<PolicyAction>) {
        if !self.guest.rebooted || !matches!(self.state, StateData::Running | StateData::Starting) {
            return;
        }
        self.guest.rebooted = false;
        self.guest.answered = false;
        if self.state == StateData::Running {
            self.enter(now, StateData::Starting, StateReason::Reboot);
            self.requests.deny_sleep(Refusal::Starting, actions);
        }
        actions.push(PolicyAction::SetUp);
    }

    /// The guest is paused.
    fn sleep(&mut self, now: Instant, missed_traffic: bool, reason: StateReason) {
        self.enter(now, StateData::Hibernated { missed_traffic }, reason);
        self.guest.paused = true;
    }

    /// The guest runs, but for a pause that another client of QEMU asked for meanwhile.
    fn run_or_sleep(&mut self, now: Instant, reason: StateReason) {
        let paused = self.guest.paused;
        self.run(now, reason);
        if paused {
            self.sleep(now, false, StateReason::External);
        }
    }

    fn take(&mut self, now: Instant, event: PolicyEvent, actions: &mut Vec<PolicyAction>) {
        match event {
            PolicyEvent::Ready => {
                self.guest.answered = true;
                if self.state == StateData::Starting {
                    self.run_or_sleep(now, StateReason::Start);
                }
            }
            PolicyEvent::Adopted { paused } => {
                self.guest.answered = true;
                self.run(now, StateReason::Adopted);
                if paused {
                    self.sleep(now, false, StateReason::Adopted);
                }
            }
            PolicyEvent::LeaseRequested(lane) => {
                self.up_for_a_sign = false;
                self.clients.request_lease(now, lane);
                self.cancel_save(actions);
            }
            PolicyEvent::ClientSpoke(lane) => {
                self.up_for_a_sign = false;
                self.clients.wait_to_be_heard(now, lane);
                self.cancel_save(actions);
            }
            PolicyEvent::SignSpoken(lane) => {
                self.clients.wait_with_sign(lane);
                self.cancel_save(actions);
            }
            PolicyEvent::LeaseDropped => self.clients.drop_lease(now),
            PolicyEvent::KeepAwakeBegun => {
                self.clients.begin_keep_awake();
                self.requests.deny_sleep(Refusal::KeptAwake, actions);
            }
            PolicyEvent::KeepAwakeEnded => self.clients.end_keep_awake(now),
            PolicyEvent::Traffic(at) => self.traffic(at),
            PolicyEvent::SignOfLife(at) => self.sign_of_life(at),
            PolicyEvent::WorkChecked { busy } => self.work_checked(now, busy, actions),
            PolicyEvent::DeadlinePassed => self.deadline_passed(now, actions),
            PolicyEvent::Paused => {
                self.guest.paused = true;
                if self.state == StateData::Running {
                    self.sleep(now, false, StateReason::External);
                }
            }
            PolicyEvent::Resumed => {
                self.guest.paused = false;
                if let StateData::Hibernated { .. } = self.state {
                    self.run(now, StateReason::External);
                    actions.push(PolicyAction::AfterWake);
                }
            }
            PolicyEvent::Reset => {
                self.guest.powering_off = false;
                self.guest.rebooted = true;
            }
            PolicyEvent::Shutdown { by_guest } => self.shutting_down(now, by_guest, actions),
            PolicyEvent::Exited => self.exited(now, actions),
            PolicyEvent::PauseDone { paused } => self.pause_done(now, paused, actions),
            PolicyEvent::ResumeDone { running } => self.resume_done(now, running, actions),
            // Another client of QEMU may have let it run in the meantime.
            PolicyEvent::SaveDone { saved, paused } => {
                self.save_done(now, saved, paused && self.guest.paused, actions);
            }
            PolicyEvent::QuitDone { saved } => self.quit_done(now, saved, actions),
            PolicyEvent::Restored => {
                if self.state == StateData::Restoring {
                    self.run_or_sleep(now, self.reason);
                    actions.push(PolicyAction::AfterWake);
                }
            }
            PolicyEvent::Rebooted => {
                if self.state == StateData::Restoring {
                    self.guest.answered = false;
                    self.guest.rebooted = false;
                    self.enter(now, StateData::Starting, self.reason);
                }
            }
            PolicyEvent::RestoreFailed { kept } => self.restore_failed(now, kept, actions),
            PolicyEvent::StopFailed => self.stop_failed(now, actions),
            PolicyEvent::Requested(request) => self.requested(now, request, actions),
        }
    }
}
