//! The one task that owns the VM. It takes what happens, asks the policy, and does what that says.
//! It waits for nothing but the next happening: work is done by jobs, whose ends are happenings.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use avocado_qemu::{Events, Machine, MachineEvent};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::bring_up::{Context, How, NotRestored, Up};
use super::error::Error;
use super::gate::{Hub, Lease, Message};
use super::jobs::{self, CONSOLE, Outcome};
use super::log::{self, Log};
use super::notify::Notify;
use super::policy::{Action, Fact, Lane, Policy, Reason, Refusal, Request, Settings, State};
use super::record::{Record, Saved};
use super::tunnel::Tunnel;
use super::wire::Failure;
use crate::dir::File;
use crate::status::{Status, Wake};
use avocado_events::chain;

mod actions;
mod describe;
mod happenings;

/// How long a guest may take to power off, unless the request says otherwise.
const STOP: Duration = crate::control::STOP_LIMIT;
/// The share of one processor above which a guest is at work.
const BUSY: f64 = 0.1;

/// How long children may take to end that were killed.
const CHILDREN: Duration = Duration::from_secs(10);
/// How far the host's clock may jump before the guest's is set again.
const JUMP: Duration = Duration::from_secs(1);

/// Called once, when the VM is up.
pub(crate) type Ready = Box<dyn FnOnce(Status) + Send>;

/// The record of the machine, which the tunnel also writes to.
pub(crate) type SharedRecord = Arc<Mutex<Option<Record>>>;

pub(crate) struct Owner {
    context: Arc<Context>,
    log: Log,
    hub: Hub,
    inbox: mpsc::UnboundedReceiver<Message>,
    tunnel: Arc<Tunnel>,
    notify: Notify,
    record: SharedRecord,
    ports: (u16, Option<u16>),
    policy: Policy,
    facts: VecDeque<Fact>,
    machine: Option<Machine>,
    events: Option<Events>,
    jobs: JoinSet<Outcome>,
    ready: Option<Ready>,
    /// Clients that wait.
    opening: Vec<(Lane, oneshot::Sender<Result<Lease, Refusal>>)>,
    wanting: Vec<oneshot::Sender<Result<(), Refusal>>>,
    asking: Vec<(Request, oneshot::Sender<Result<(), Failure>>)>,
    stop_limit: Duration,
    /// Whether a machine that is there is being looked for, and whether somebody asked to stop it
    /// meanwhile, with or without force.
    adopting: Option<Option<bool>>,
    /// Ends a save that is not wanted any more.
    hurry: Option<oneshot::Sender<()>>,
    /// The jobs that make no sense any more when the guest pauses, or is killed.
    waking: Option<AbortHandle>,
    stopping: Option<AbortHandle>,
    /// The workspace was unmounted for a save.
    unmounted: bool,
    /// Processor time of QEMU, and when that was.
    used: Option<(Instant, u64)>,
    /// The host's clock, as it was when it was last compared with the one that never steps.
    clock: (Instant, SystemTime),
    since: String,
    last_wake: Option<Wake>,
    problem: Option<String>,
    failure: Option<Error>,
}

/// What the owner starts with.
pub(crate) struct Parts {
    pub(crate) context: Arc<Context>,
    pub(crate) log: Log,
    pub(crate) hub: Hub,
    pub(crate) inbox: mpsc::UnboundedReceiver<Message>,
    pub(crate) tunnel: Arc<Tunnel>,
    pub(crate) record: SharedRecord,
    pub(crate) ports: (u16, Option<u16>),
    pub(crate) ready: Ready,
}

impl Owner {
    pub(crate) fn new(parts: Parts) -> Owner {
        let launch = &parts.context.launch;
        let settings = Settings::new(&launch.idle);
        Owner {
            notify: Notify::new(launch.notify.clone(), parts.log.clone()),
            context: parts.context,
            log: parts.log,
            hub: parts.hub,
            inbox: parts.inbox,
            tunnel: parts.tunnel,
            record: parts.record,
            ports: parts.ports,
            policy: Policy::new(settings, Instant::now()),
            facts: VecDeque::new(),
            machine: None,
            events: None,
            jobs: JoinSet::new(),
            ready: Some(parts.ready),
            opening: Vec::new(),
            wanting: Vec::new(),
            asking: Vec::new(),
            stop_limit: STOP,
            adopting: Some(None),
            hurry: None,
            waking: None,
            stopping: None,
            unmounted: false,
            used: None,
            clock: (Instant::now(), SystemTime::now()),
            since: log::now(),
            last_wake: None,
            problem: None,
            failure: None,
        }
    }

    /// Brings the VM up and owns it until it is gone.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let signals = |kind| {
            signal(kind).map_err(|source| Error::System {
                what: "listen to signals",
                source,
            })
        };
        let mut terminate = signals(SignalKind::terminate())?;
        let mut interrupt = signals(SignalKind::interrupt())?;
        self.notify.hint("vm.notify.starting", json!({}));
        self.jobs.spawn(jobs::adopt(self.context.clone()));
        while self.policy.state() != State::Gone {
            self.step(&mut terminate, &mut interrupt).await;
        }
        self.end().await
    }

    async fn step(&mut self, terminate: &mut Signal, interrupt: &mut Signal) {
        self.follow_clock();
        let deadline = self.policy.deadline();
        tokio::select! {
            biased;
            event = next(&mut self.events) => self.event(event),
            Some(outcome) = self.jobs.join_next() => {
                // What QEMU said before comes before.
                self.catch_up();
                match outcome {
                    Ok(outcome) => self.outcome(outcome),
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => self.log.line(&format!("a job failed: {error}")),
                }
            }
            Some(message) = self.inbox.recv() => {
                self.catch_up();
                self.message(message);
            }
            () = sleep_until(deadline) => {
                self.heed(self.policy.hurried());
                self.feed(Fact::Timer);
                if !self.policy.looking() {
                    self.measure();
                }
            }
            _ = terminate.recv() => self.terminate(),
            _ = interrupt.recv() => self.terminate(),
        }
    }

    /// The host slept, or its clock was set: the guest's is wrong now.
    fn follow_clock(&mut self) {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let expected = self.clock.1 + now.duration_since(self.clock.0);
        self.clock = (now, clock);
        let off = match clock.duration_since(expected) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        if off > JUMP && self.policy.state() == State::Running {
            self.log.line(&format!(
                "the host's clock has jumped by {} s",
                off.as_secs()
            ));
            self.set_clock();
        }
    }

    /// Tells the policy of the traffic so far. Where somebody asked to pause the guest, a client
    /// that waits for its answer counts as traffic: nothing would wake the guest for it.
    fn heed(&mut self, asked: bool) {
        let gate = &self.hub.gate;
        let at = if asked && gate.is_awaited() {
            Instant::now()
        } else {
            gate.traffic()
        };
        self.feed(Fact::Traffic(at));
    }

    /// A signal is a request to stop; another one insists.
    fn terminate(&mut self) {
        let force = self.policy.state() == State::Stopping;
        self.log.line("a signal asks to stop");
        self.feed(Fact::Asked(Request::Stop { force }));
    }

    /// Feeds a fact to the policy, and everything that follows from it.
    fn feed(&mut self, fact: Fact) {
        self.facts.push_back(fact);
        // Actions may lead to more facts; those are taken in their order, not on top.
        if self.facts.len() > 1 {
            return;
        }
        while let Some(fact) = self.facts.front().copied() {
            let before = self.policy.state();
            let actions = self.policy.on(Instant::now(), fact);
            let state = self.policy.state();
            // The gate closes before anything else is done, and opens before anybody is let in.
            self.hub.gate.set_awake(state == State::Running);
            if state != before {
                self.changed(before, state);
            }
            for action in actions {
                self.act(action);
            }
            if state == State::Pausing && before != state {
                // Bytes that moved before the gate was closed: see the module of the gate.
                self.facts.push_back(Fact::Traffic(self.hub.gate.traffic()));
            }
            self.facts.pop_front();
        }
    }

    fn changed(&mut self, before: State, state: State) {
        let reason = self.policy.reason();
        self.since = log::now();
        match state {
            State::Running => {
                self.log.line(&format!("running ({})", reason.waker()));
                if matches!(before, State::Waking | State::Hibernated | State::Restoring) {
                    self.last_wake = Some(Wake {
                        reason: reason.waker().to_owned(),
                        at: self.since.clone(),
                    });
                }
                self.measure();
            }
            State::Hibernated => {
                self.log.line(&format!("hibernated ({})", reason.name()));
                let ours = matches!(reason, Reason::Idle | Reason::Requested);
                if let Some(machine) = self.machine.clone().filter(|_| !ours) {
                    self.jobs.spawn(jobs::why_paused(machine));
                }
            }
            State::Released => {
                self.log
                    .line(&format!("memory released ({})", reason.name()));
                if reason != Reason::Failure {
                    // If it was not released before, it is now.
                    self.problem = None;
                }
            }
            State::Waking | State::Restoring => {
                // Whatever it was is tried again.
                self.problem = None;
                self.log.line(&format!("waking ({})", reason.waker()));
            }
            State::Saving => self
                .log
                .line(&format!("saving its memory ({})", reason.name())),
            State::Stopping => {
                self.log.line(&format!("stopping ({})", reason.name()));
                let pid = self.machine.as_ref().map(|machine| machine.identity().pid);
                self.notify
                    .hint("vm.notify.stopping", json!({ "pid": pid }));
            }
            State::Starting | State::Pausing | State::Gone => {}
        }
        if state != State::Running
            && let Some(job) = self.waking.take()
        {
            // It would only wait for a guest that sleeps.
            job.abort();
        }
        if self.policy.is_up() && matches!(state, State::Running | State::Hibernated) {
            self.is_up();
        }
    }

    /// The guest has answered: says so, once.
    fn is_up(&mut self) {
        {
            let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(record) = record.as_mut().filter(|record| !record.ready) {
                record.ready = true;
                let _ = record.write(&self.context.dir);
            }
        }
        if let Some(ready) = self.ready.take() {
            let pid = self.machine.as_ref().map(|machine| machine.identity().pid);
            let params = json!({ "pid": pid, "ssh_port": self.ports.0 });
            self.notify.hint("vm.notify.running", params);
            ready(self.status(Some(self.policy.paused())));
        }
    }

    /// Nothing of the VM is left.
    async fn end(mut self) -> Result<(), Error> {
        self.jobs.shutdown().await;
        if let Some(machine) = self.machine.take() {
            machine.kill();
            machine.exited().await;
        }
        self.tunnel.end().await;
        no_children().await;
        self.log
            .line(&format!("ended ({})", self.policy.reason().name()));
        self.notify.hint("vm.notify.stopped", json!({}));
        self.notify.end().await;
        match (self.ready, self.failure) {
            (Some(_), failure) => Err(failure.unwrap_or(Error::Stopped)),
            (None, Some(failure)) => Err(failure),
            (None, None) => Ok(()),
        }
    }
}

async fn next(events: &mut Option<Events>) -> Option<MachineEvent> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// Returns when every child was waited for: a start that was cut off has killed its QEMU, but not
/// seen its end.
async fn no_children() {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let deadline = Instant::now() + CHILDREN;
    while waitid(WaitId::All, look).is_ok() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
