//! The owner's life: one event after the other, until the VM is gone.

use std::time::{Duration, Instant};

use avocado_qemu::{MachineEvent, MachineEvents};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::super::error::SupervisorError;
use super::super::policy::{PolicyEvent, PolicyState, VmRequest};
use super::super::{jobs, log};
use super::clock_watch::ClockReading;
use super::vm_owner::VmOwner;
use crate::dir::StateFile;

/// How long children may take to end that were killed.
const CHILDREN_LIMIT: Duration = Duration::from_secs(10);
/// How often the length of the guest's console is looked at.
const CONSOLE_PERIOD: Duration = Duration::from_secs(5);

impl VmOwner {
    /// Brings the VM up and owns it until it is gone.
    ///
    /// # Errors
    /// It did not start, or it ended badly.
    pub(crate) async fn run(mut self) -> Result<(), SupervisorError> {
        let signals = |kind| {
            signal(kind).map_err(|source| SupervisorError::System {
                what: "listen to signals",
                source,
            })
        };
        let mut terminate = signals(SignalKind::terminate())?;
        let mut interrupt = signals(SignalKind::interrupt())?;
        self.notifier.hint("vm.notify.starting", json!({}));
        self.jobs.spawn(jobs::adopt(self.context.clone()));
        while self.policy.state() != PolicyState::Gone {
            self.step(&mut terminate, &mut interrupt).await;
        }
        self.end().await
    }

    async fn step(&mut self, terminate: &mut Signal, interrupt: &mut Signal) {
        self.follow_clock();
        let deadline = self.policy.deadline().filter(|_| !self.awaits_trim());
        let console_check = self.console_check();
        let runs = self.policy.state() == PolicyState::Running;
        tokio::select! {
            // In this order: what QEMU says comes before what follows from it.
            biased;
            event = next_event(&mut self.machine_events) => self.on_machine_event(event),
            Some(outcome) = self.jobs.join_next() => {
                // What QEMU said before comes before.
                self.drain_machine_events();
                match outcome {
                    Ok(outcome) => self.on_job_outcome(outcome),
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => {
                        self.log.line(&format!("a job failed: {error}"));
                        if self.policy.is_checking_work() {
                            self.dispatch(PolicyEvent::WorkChecked { busy: true });
                        }
                    }
                }
            }
            Some(message) = self.inbox.recv() => {
                self.drain_machine_events();
                self.on_message(message);
            }
            () = sleep_until(deadline) => self.on_deadline(),
            // For `follow_clock`. A guest that sleeps has its clock set when it wakes.
            () = self.clock.changed(), if runs => {}
            () = sleep_until(console_check) => self.bound_console(),
            _ = terminate.recv() => self.on_signal(),
            _ = interrupt.recv() => self.on_signal(),
        }
    }

    fn on_deadline(&mut self) {
        self.note_traffic(self.policy.is_sleep_requested());
        if self
            .policy
            .deadline()
            .is_some_and(|due| due <= Instant::now())
            && self.trim_before_sleep()
        {
            // It comes again.
            return;
        }
        self.dispatch(PolicyEvent::DeadlinePassed);
        if !self.policy.is_checking_work() {
            self.measure_cpu();
        }
    }

    /// When the length of the console is to be looked at: only while the guest can write to it.
    fn console_check(&self) -> Option<Instant> {
        let runs = matches!(
            self.policy.state(),
            PolicyState::Starting | PolicyState::Running | PolicyState::Stopping
        );
        runs.then_some(self.console_checked + CONSOLE_PERIOD)
    }

    fn bound_console(&mut self) {
        self.console_checked = Instant::now();
        // A QEMU that an earlier version started writes on where it was. It has no such device either.
        let appends = self.recorded().is_some_and(|r| r.spec.panic_device);
        if appends {
            log::bound_console(&self.context.dir.file(StateFile::SerialLog));
        }
    }

    /// The host slept, or its clock was set: the guest's is wrong now.
    fn follow_clock(&mut self) {
        if let Some(jump) = self.clock.jump(ClockReading::now())
            && self.policy.state() == PolicyState::Running
        {
            self.log.line(&format!(
                "the host's clock has jumped by {} ms",
                jump.as_millis()
            ));
            self.set_guest_clock();
        }
    }

    /// A signal is a request to stop; another one insists.
    fn on_signal(&mut self) {
        let force = self.policy.state() == PolicyState::Stopping;
        self.log.line("a signal asks to stop");
        self.is_signalled = true;
        self.dispatch(PolicyEvent::Requested(VmRequest::Stop { force }));
    }

    /// Nothing of the VM is left when this returns.
    async fn end(mut self) -> Result<(), SupervisorError> {
        self.jobs.shutdown().await;
        if let Some(machine) = self.machine.take() {
            machine.kill();
            machine.exited().await;
        }
        self.tunnel.end().await;
        children_reaped().await;
        self.log
            .line(&format!("ended ({})", self.policy.reason().name()));
        self.notifier.hint("vm.notify.stopped", json!({}));
        self.notifier.end().await;
        match (self.on_ready, self.failure) {
            (Some(_), failure) => Err(failure.unwrap_or(SupervisorError::Stopped)),
            (None, Some(failure)) => Err(failure),
            (None, None) => Ok(()),
        }
    }
}

async fn next_event(events: &mut Option<MachineEvents>) -> Option<MachineEvent> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// Returns when every child was waited for: a start that was cut off has killed its QEMU, but not
/// seen its end.
async fn children_reaped() {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let deadline = Instant::now() + CHILDREN_LIMIT;
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
