//! Waiting for a guest that boots: at a start, and whenever it reboots by itself.

use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::super::error::SupervisorError;
use super::super::jobs::{self, GuestAnswer, ReadyWait};
use super::super::policy::PolicyEvent;
use super::vm_owner::VmOwner;

/// The wait that is under way, or was the last.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    /// Which boot it is, so that the answer of an earlier one is not taken for that of this.
    boot: u64,
    certain: bool,
    deadline: Option<Instant>,
    /// What waits for the guest, or sets it up.
    job: Option<AbortHandle>,
}

impl VmOwner {
    /// Waits for a guest that answers; `certain`: or else the start has failed.
    pub(super) fn await_ready(&mut self, certain: bool) {
        let limit = Duration::from_secs(self.context.launch.ready_timeout_secs);
        self.readiness.certain = certain;
        self.readiness.deadline = Some(Instant::now() + limit);
        self.begin_wait(limit);
    }

    /// Waits for a guest that boots again. What the boot before was about to be given is void.
    pub(super) fn await_reboot(&mut self) {
        match self.readiness.deadline.filter(|_| self.on_ready.is_some()) {
            // A start does not take longer for it.
            Some(deadline) => {
                self.begin_wait(deadline.saturating_duration_since(Instant::now()));
            }
            None => self.await_ready(false),
        }
    }

    fn begin_wait(&mut self, limit: Duration) {
        self.end_wait();
        let (Some(machine), Some(port)) = (self.machine.clone(), self.handle.shared.forward_port())
        else {
            return;
        };
        self.readiness.boot += 1;
        let wait = ReadyWait {
            boot: self.readiness.boot,
            certain: self.readiness.certain,
            limit,
        };
        let (shared, log) = (self.handle.shared.clone(), self.log.clone());
        let job = jobs::await_ready(self.context.clone(), machine, port, wait, shared, log);
        self.readiness.job = Some(self.jobs.spawn(job));
    }

    fn end_wait(&mut self) {
        if let Some(job) = self.readiness.job.take() {
            job.abort();
        }
    }

    /// The end of a wait.
    pub(super) fn on_ready_outcome(
        &mut self,
        boot: u64,
        result: Result<GuestAnswer, SupervisorError>,
    ) {
        if boot != self.readiness.boot {
            return;
        }
        match result {
            Ok(answer) => {
                if answer == GuestAnswer::Silent {
                    self.problem = Some("the guest does not answer on its ssh port".to_owned());
                }
                if answer == GuestAnswer::WithoutAgent {
                    self.handle.shared.set_agent_missing(true);
                }
                self.dispatch(PolicyEvent::Ready);
                if answer == (GuestAnswer::SetUp { clock_set: false }) {
                    self.set_late_clock();
                }
                if let (GuestAnswer::WithoutAgent, Some(machine)) = (answer, self.machine.clone()) {
                    let (context, log) = (self.context.clone(), self.log.clone());
                    let shared = self.handle.shared.clone();
                    let job = jobs::await_late_agent(context, machine, shared, log);
                    self.readiness.job = Some(self.jobs.spawn(job));
                }
            }
            Err(error) => {
                // Nothing of a start that failed is left.
                self.failure.get_or_insert(error);
                match &self.machine {
                    Some(machine) => machine.kill(),
                    None => self.dispatch(PolicyEvent::Exited),
                }
            }
        }
    }
}
