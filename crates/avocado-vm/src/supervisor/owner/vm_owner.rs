//! What the owner has, and how it does what the policy says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use avocado_events::chain;
use avocado_qemu::{Accelerator, Machine, MachineEvents};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::super::context::SupervisorContext;
use super::super::desktop_notifier::DesktopNotifier;
use super::super::docker_tunnel::DockerTunnel;
use super::super::error::SupervisorError;
use super::super::jobs::{self, JobOutcome};
use super::super::log::{self, SupervisorLog};
use super::super::machine_record::MachineRecord;
use super::super::owner_handle::{OwnerHandle, OwnerMessage};
use super::super::policy::{
    CountedLane, PolicyAction, PolicyEvent, PolicyState, Refusal, SleepPolicy, SleepSettings,
    StateReason, VmRequest,
};
use super::super::protocol::STOP_LIMIT;
use super::super::saved_memory::SavedMemory;
use super::super::work::{SessionTeller, WorkCounters, WorkLook, WorkSign};
use super::clock_watch::ClockWatch;
use super::cpu_meter::CpuMeter;
use super::panic::PanicReport;
use super::readiness::Readiness;
use super::status::{StatusParts, vm_status};
use super::trimming::Trimming;
use super::waiting_clients::WaitingClients;
use super::workspace::WorkspaceMount;
use crate::dir::StateFile;
use crate::status::{LastWake, VmStatus};

/// How long the first bytes on a connection wait for the clock of a guest that has just woken.
const CLOCK_WAIT: Duration = Duration::from_millis(300);

/// Called once, when the VM is up.
pub(crate) type ReadyCallback = Box<dyn FnOnce(VmStatus) + Send>;

/// The record of the machine, which the tunnel also writes to.
pub(crate) type SharedRecord = Arc<Mutex<Option<MachineRecord>>>;

/// The owner of one VM.
pub(crate) struct VmOwner {
    pub(super) context: Arc<SupervisorContext>,
    pub(super) log: SupervisorLog,
    pub(super) handle: OwnerHandle,
    pub(super) inbox: mpsc::UnboundedReceiver<OwnerMessage>,
    pub(super) tunnel: Arc<DockerTunnel>,
    pub(super) notifier: DesktopNotifier,
    record: SharedRecord,
    ports: (u16, Option<u16>),
    pub(super) policy: SleepPolicy,
    /// What is still to be told to the policy; the first is being told.
    pending: VecDeque<PolicyEvent>,
    pub(super) machine: Option<Machine>,
    pub(super) machine_events: Option<MachineEvents>,
    pub(super) jobs: JoinSet<JobOutcome>,
    pub(super) on_ready: Option<ReadyCallback>,
    pub(super) waiting: WaitingClients,
    pub(super) stop_limit: Duration,
    pub(super) takeover: Takeover,
    /// Cancels the save under way, when it is dropped.
    pub(super) cancel_save: Option<oneshot::Sender<()>>,
    /// The job after a wake, or that sets the clock late, which makes no sense any more when the guest pauses.
    after_wake_job: Option<AbortHandle>,
    /// The job that shuts the guest down, which a later one with force replaces.
    shut_down_job: Option<AbortHandle>,
    /// How a guest that boots is waited for.
    pub(super) readiness: Readiness,
    /// The guest's last panic, with its last words.
    pub(super) panic: Option<PanicReport>,
    pub(super) workspace: WorkspaceMount,
    pub(super) cpu: CpuMeter,
    /// What went through disks and network when the guest was last looked at, since it last slept.
    pub(super) counters: Option<WorkCounters>,
    /// What showed at that look that it works, and what kept it from being known.
    work: Option<WorkSign>,
    /// How the guest's agent told of its sessions.
    pub(super) teller: SessionTeller,
    pub(super) work_problem: Option<String>,
    /// How often the guest has begun to run.
    pub(super) runs: u64,
    /// A signal asked to stop, and waits for nothing.
    pub(super) is_signalled: bool,
    pub(super) clock: ClockWatch,
    pub(super) trimming: Trimming,
    /// When the length of the guest's console was last looked at.
    pub(super) console_checked: Instant,
    /// Since when the VM is in its state, RFC 3339.
    since: String,
    last_wake: Option<LastWake>,
    pub(super) problem: Option<String>,
    pub(super) failure: Option<SupervisorError>,
}

/// The search for a machine that a killed supervisor left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takeover {
    /// It is under way.
    Searching,
    /// It is under way, and a client asked meanwhile to stop what it may find.
    StopRequested { force: bool },
    /// It has ended.
    Over,
}

/// What the owner starts with.
pub(crate) struct OwnerParts {
    pub(crate) context: Arc<SupervisorContext>,
    pub(crate) log: SupervisorLog,
    pub(crate) handle: OwnerHandle,
    pub(crate) inbox: mpsc::UnboundedReceiver<OwnerMessage>,
    pub(crate) tunnel: Arc<DockerTunnel>,
    pub(crate) record: SharedRecord,
    /// For users, and the one that never wakes the guest.
    pub(crate) ports: (u16, Option<u16>),
    pub(crate) on_ready: ReadyCallback,
}

impl VmOwner {
    pub(crate) fn new(parts: OwnerParts) -> VmOwner {
        let launch = &parts.context.launch;
        let settings = SleepSettings::new(&launch.idle);
        let clock = ClockWatch::new(&parts.log);
        VmOwner {
            notifier: DesktopNotifier::new(launch.notify.clone(), parts.log.clone()),
            context: parts.context,
            log: parts.log,
            handle: parts.handle,
            inbox: parts.inbox,
            tunnel: parts.tunnel,
            record: parts.record,
            ports: parts.ports,
            policy: SleepPolicy::new(settings, Instant::now()),
            pending: VecDeque::new(),
            machine: None,
            machine_events: None,
            jobs: JoinSet::new(),
            on_ready: Some(parts.on_ready),
            waiting: WaitingClients::default(),
            stop_limit: STOP_LIMIT,
            takeover: Takeover::Searching,
            cancel_save: None,
            after_wake_job: None,
            shut_down_job: None,
            readiness: Readiness::default(),
            panic: None,
            workspace: WorkspaceMount::default(),
            cpu: CpuMeter::default(),
            counters: None,
            work: None,
            teller: SessionTeller::default(),
            work_problem: None,
            runs: 0,
            is_signalled: false,
            clock,
            trimming: Trimming::default(),
            console_checked: Instant::now(),
            since: log::now(),
            last_wake: None,
            problem: None,
            failure: None,
        }
    }

    /// Tells the policy of an event, and does everything that follows from it.
    pub(super) fn dispatch(&mut self, event: PolicyEvent) {
        self.pending.push_back(event);
        // Actions may lead to more events; those are taken in their order, not on top.
        if self.pending.len() > 1 {
            return;
        }
        if let Some(asked) = self.waiting.drop_left() {
            self.log
                .line("who asked for something has left: it is not carried out");
            self.policy.keep_requests(&asked, self.is_signalled);
        }
        while let Some(event) = self.pending.front().copied() {
            let before = self.policy.state();
            let actions = self.policy.on(Instant::now(), event);
            let state = self.policy.state();
            // The gate closes before anything else is done, and opens before a client is let in.
            self.handle.shared.set_awake(state == PolicyState::Running);
            if state != before {
                self.on_state_change(before, state);
            }
            for action in actions {
                self.perform(action);
            }
            if state == PolicyState::Pausing && before != state {
                // Bytes that moved before the gate was closed: see the module `shared_state`.
                let traffic = self.handle.shared.last_traffic();
                self.pending.push_back(PolicyEvent::Traffic(traffic));
                let sign = self.handle.shared.last_sign();
                self.pending.extend(sign.map(PolicyEvent::SignOfLife));
            }
            self.pending.pop_front();
        }
        // Once it is carried out or denied, another stop is only for those who wait for it.
        self.is_signalled &= self.policy.is_stop_requested();
    }

    fn on_state_change(&mut self, before: PolicyState, state: PolicyState) {
        let reason = self.policy.reason();
        self.since = log::now();
        self.note_state_for_trims(state);
        match state {
            PolicyState::Running => {
                self.log.line(&format!("running ({})", reason.waker()));
                if matches!(
                    before,
                    PolicyState::Waking | PolicyState::Hibernated | PolicyState::Restoring
                ) {
                    self.last_wake = Some(LastWake {
                        reason: reason.waker().to_owned(),
                        at: self.since.clone(),
                    });
                }
                self.measure_cpu();
                self.counters = None;
                self.work = None;
                self.runs += 1;
            }
            PolicyState::Hibernated => {
                self.log.line(&format!("hibernated ({})", reason.name()));
                let ours = matches!(reason, StateReason::Idle | StateReason::Requested);
                if let Some(machine) = self.machine.clone().filter(|_| !ours) {
                    self.jobs.spawn(jobs::find_pause_cause(machine));
                }
            }
            PolicyState::Released => {
                self.log
                    .line(&format!("memory released ({})", reason.name()));
                if reason != StateReason::Failure {
                    // If it was not released before, it is now.
                    self.problem = None;
                }
            }
            PolicyState::Waking | PolicyState::Restoring => {
                // Whatever it was is tried again.
                self.problem = None;
                self.log.line(&format!("waking ({})", reason.waker()));
            }
            PolicyState::Saving => self
                .log
                .line(&format!("saving its memory ({})", reason.name())),
            PolicyState::Stopping => {
                self.log.line(&format!("stopping ({})", reason.name()));
                let params = json!({ "pid": self.qemu_pid() });
                self.notifier.hint("vm.notify.stopping", params);
            }
            PolicyState::Pausing => {
                if let Some(machine) = &self.machine
                    && reason == StateReason::Idle
                    && self.policy.open_leases() == 0
                {
                    self.cpu.note_idle(machine);
                }
            }
            PolicyState::Starting => {
                self.log.line(&format!("starting ({})", reason.name()));
                self.notifier.hint("vm.notify.starting", json!({}));
            }
            PolicyState::Gone => {}
        }
        if state != PolicyState::Running {
            self.work_problem = None;
            self.end_mount();
        }
        if state != PolicyState::Running
            && let Some(job) = self.after_wake_job.take()
        {
            // It would only wait for a guest that sleeps.
            job.abort();
        }
        if self.policy.has_answered()
            && matches!(state, PolicyState::Running | PolicyState::Hibernated)
        {
            self.announce_ready();
        }
    }

    /// The guest has answered: says so, once.
    fn announce_ready(&mut self) {
        // Without it the next supervisor waits for an answer once more.
        let news = self.record_ready(true);
        if news || self.on_ready.is_some() {
            let params = json!({ "pid": self.qemu_pid(), "ssh_port": self.ports.0 });
            self.notifier.hint("vm.notify.running", params);
        }
        if let Some(on_ready) = self.on_ready.take() {
            on_ready(self.status(Some(self.policy.is_paused())));
        }
    }

    /// Writes down whether the guest has answered since it booted. Says whether that is new.
    pub(super) fn record_ready(&self, ready: bool) -> bool {
        let mut record = self.lock_record();
        let Some(record) = record.as_mut().filter(|record| record.ready != ready) else {
            return false;
        };
        record.ready = ready;
        let _ = record.write(&self.context.dir);
        true
    }

    /// Does what the policy wants: at once, or by a job.
    pub(super) fn perform(&mut self, action: PolicyAction) {
        let machine = self.machine.clone();
        let dir = self.context.dir.clone();
        match (action, machine) {
            (PolicyAction::Grant, _) => self.waiting.grant(&self.handle),
            (PolicyAction::Refuse(why), _) => self.waiting.refuse(why),
            (PolicyAction::Done(request), _) => self.answer(request, Ok(())),
            (PolicyAction::Denied(request, why), _) => self.answer(request, Err(why)),
            (PolicyAction::CancelSave, _) => drop(self.cancel_save.take()),
            (PolicyAction::Discard, _) => {
                if let Err(error) = SavedMemory::discard(&dir) {
                    self.report_problem("saved memory is still there", Some(chain(&error)));
                }
                // It does not count any more, and is emptied by the next save.
                let _ = dir.remove(StateFile::SavedMemory);
            }
            (PolicyAction::AfterWake, _) => self.after_wake(),
            (PolicyAction::Restore, _) => match self.recorded() {
                Some(record) => {
                    let record = MachineRecord {
                        identity: None,
                        ..record
                    };
                    self.jobs
                        .spawn(jobs::bring_back(self.context.clone(), record));
                }
                None => self
                    .pending
                    .push_back(PolicyEvent::RestoreFailed { kept: false }),
            },
            (PolicyAction::Pause, Some(machine)) => drop(self.jobs.spawn(jobs::pause(machine))),
            (PolicyAction::Resume, Some(machine)) => drop(self.jobs.spawn(jobs::resume(machine))),
            (PolicyAction::CheckWork, Some(machine)) => self.check_work(machine),
            (PolicyAction::Save, Some(machine)) => {
                let (cancel, cancelled) = oneshot::channel();
                self.cancel_save = Some(cancel);
                self.tunnel.close();
                let unmount = self.workspace_leaves();
                self.jobs
                    .spawn(jobs::save(machine, dir, unmount, cancelled));
            }
            (PolicyAction::Quit, Some(machine)) => match self.recorded() {
                Some(record) => drop(self.jobs.spawn(jobs::quit_saved(machine, dir, record))),
                None => self
                    .pending
                    .push_back(PolicyEvent::QuitDone { saved: false }),
            },
            (PolicyAction::SetUp, Some(_)) => self.await_reboot(),
            (PolicyAction::ShutDown { force }, Some(machine)) => {
                if let Some(job) = self.shut_down_job.take() {
                    job.abort();
                }
                let how = jobs::ShutDown {
                    force,
                    paused: self.policy.is_paused(),
                    trim: self.has_disks_to_trim(),
                    limit: self.stop_limit,
                };
                let job = jobs::shut_down(machine, how, self.log.clone());
                self.shut_down_job = Some(self.jobs.spawn(job));
            }
            // It may be there: what is taken over must not be left half way.
            (PolicyAction::ShutDown { force }, None) if self.takeover != Takeover::Over => {
                self.takeover = Takeover::StopRequested { force };
            }
            (PolicyAction::ShutDown { .. }, None) => {
                // There is nothing yet but preparations.
                self.failure.get_or_insert(SupervisorError::Stopped);
                self.jobs.abort_all();
                self.pending.push_back(PolicyEvent::Exited);
            }
            // QEMU has just ended: its event is on the way.
            (PolicyAction::Pause, None) => self
                .pending
                .push_back(PolicyEvent::PauseDone { paused: false }),
            (PolicyAction::Resume, None) => self
                .pending
                .push_back(PolicyEvent::ResumeDone { running: false }),
            (PolicyAction::CheckWork, None) => self
                .pending
                .push_back(PolicyEvent::WorkChecked { busy: true }),
            (PolicyAction::Save, None) => {
                let (saved, paused) = (false, true);
                self.pending
                    .push_back(PolicyEvent::SaveDone { saved, paused });
            }
            (PolicyAction::Quit, None) => self
                .pending
                .push_back(PolicyEvent::QuitDone { saved: false }),
            (PolicyAction::SetUp, None) => {}
        }
    }

    fn answer(&mut self, request: VmRequest, result: Result<(), Refusal>) {
        self.waiting
            .answer(request, result, self.problem.as_deref());
    }

    pub(super) fn after_wake(&mut self) {
        self.handle.shared.clock_stood_still(CLOCK_WAIT);
        if self.policy.reason() == StateReason::Connection(CountedLane::Ssh) {
            self.handle.shared.await_greeting();
        }
        self.notifier.hint("vm.notify.woke", json!({}));
        self.measure_cpu();
        self.set_guest_clock();
    }

    pub(super) fn set_guest_clock(&mut self) {
        if let Some(machine) = self.machine.clone() {
            let (shared, log) = (self.handle.shared.clone(), self.log.clone());
            let job = self.jobs.spawn(jobs::after_wake(machine, shared, log));
            if let Some(earlier) = self.after_wake_job.replace(job) {
                earlier.abort();
            }
        }
    }

    /// Sets the clock of a guest that could not be told the time, as soon as it can be.
    pub(super) fn set_late_clock(&mut self) {
        let runs = self.policy.state() == PolicyState::Running;
        if let Some(machine) = self.machine.clone().filter(|_| runs && self.is_clock_set()) {
            let (shared, log) = (self.handle.shared.clone(), self.log.clone());
            let job = self.jobs.spawn(jobs::set_late_clock(machine, shared, log));
            self.after_wake_job = Some(job);
        }
    }

    /// Whether nothing is under way that sets the guest's clock.
    pub(super) fn is_clock_set(&self) -> bool {
        self.after_wake_job
            .as_ref()
            .is_none_or(AbortHandle::is_finished)
    }

    /// Notes the processor time that QEMU used so far.
    pub(super) fn measure_cpu(&mut self) {
        self.cpu.measure(self.machine.as_ref());
    }

    /// Finds out whether the guest works.
    fn check_work(&mut self, machine: Machine) {
        let connected = self.policy.open_leases() > 0;
        // What a guest does right after a wake is not what it does.
        let rates = !self.policy.is_up_for_a_sign();
        let busy = rates && self.cpu.is_busy(&machine, self.accelerator());
        let shared = self.handle.shared.clone();
        let sign = match connected {
            true if shared.has_docker_work() => Some(WorkSign::DockerRequest),
            true if busy => Some(WorkSign::Processor),
            _ => None,
        };
        if sign.is_some() {
            // Their next count begins when they are needed again.
            self.counters = None;
            self.work_checked(sign);
            return;
        }
        let look = WorkLook {
            before: self.counters,
            rates: connected && rates,
            ssh: shared.ssh_connections() > 0,
            teller: self.teller,
            uncounted: shared.infra_ports(),
            containers: self.context.launch.idle.containers_keep_awake,
            infra: move || shared.infra_bytes(),
        };
        self.jobs.spawn(jobs::check_work(machine, look, self.runs));
    }

    /// Tells the policy whether the guest works.
    pub(super) fn work_checked(&mut self, sign: Option<WorkSign>) {
        if self.work != sign
            && let Some(sign) = sign
        {
            self.log.line(&format!("stays awake ({})", sign.name()));
        }
        self.work = sign;
        let busy = sign.is_some();
        self.dispatch(PolicyEvent::WorkChecked { busy });
    }

    fn accelerator(&self) -> Option<Accelerator> {
        let record = self.lock_record();
        record.as_ref().map(|record| record.spec.accelerator)
    }

    /// Notes what went wrong, if something did, for the log and the status.
    pub(super) fn report_problem(&mut self, what: &str, why: Option<String>) {
        if let Some(why) = why {
            let problem = format!("{what}: {why}");
            self.log.line(&problem);
            self.problem = Some(problem);
        }
    }

    /// The status, with `paused` as QEMU says.
    pub(super) fn status(&self, paused: Option<bool>) -> VmStatus {
        let released = self.policy.state() == PolicyState::Released;
        let saved = released.then(|| SavedMemory::read(&self.context.dir));
        let saved = saved.flatten().and_then(|saved| saved.problem());
        let record = self.lock_record();
        let parts = StatusParts {
            dir: &self.context.dir,
            policy: &self.policy,
            shared: &self.handle.shared,
            machine: self.machine.as_ref(),
            record: record.as_ref(),
            ports: self.ports,
            since: &self.since,
            last_wake: self.last_wake.as_ref(),
            work: self.work,
            problem: self.problem.as_deref(),
            work_problem: self.work_problem.as_deref(),
            panic: self.panic.as_ref().map(PanicReport::problem),
            saved: saved.as_deref(),
        };
        vm_status(&parts, paused)
    }

    /// What is written down about the machine.
    pub(super) fn recorded(&self) -> Option<MachineRecord> {
        self.lock_record().clone()
    }

    pub(super) fn lock_record(&self) -> MutexGuard<'_, Option<MachineRecord>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn qemu_pid(&self) -> Option<u32> {
        self.machine.as_ref().map(|machine| machine.identity().pid)
    }
}
