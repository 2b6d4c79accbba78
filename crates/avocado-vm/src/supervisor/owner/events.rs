//! What happens to the VM, turned into events of the policy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use avocado_events::{Event, chain};
use avocado_qemu::MachineEvent;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::context::SupervisorContext;
use super::super::error::SupervisorError;
use super::super::jobs::{self, CONSOLE_LINES, JobOutcome};
use super::super::log;
use super::super::owner_handle::OwnerMessage;
use super::super::policy::{PolicyAction, PolicyEvent, PolicyState, SleepSettings, VmRequest};
use super::super::protocol::STOP_LIMIT;
use super::super::start::{RestoreFailure, StartKind, StartedMachine};
use super::vm_owner::{Takeover, VmOwner};
use crate::access;
use crate::dir::StateFile;
use crate::launch::IdleChange;
use crate::status::VmStatus;

/// Why a guest stands still that no client of QEMU paused.
const DISK_ERROR: &str = "the guest stands still because one of its disks cannot be written or read: \
                          most likely the file system of the state directory is full. Free some \
                          space; the next connection tries again";

/// How long QEMU may take to say whether the guest is paused.
const STATUS_LIMIT: Duration = Duration::from_millis(500);

impl VmOwner {
    /// Takes every event of the machine that is there.
    pub(super) fn drain_machine_events(&mut self) {
        while let Some(events) = &mut self.machine_events {
            match events.try_recv() {
                Ok(event) => self.on_machine_event(Some(event)),
                Err(_) => break,
            }
        }
    }

    pub(super) fn on_machine_event(&mut self, event: Option<MachineEvent>) {
        match event {
            Some(MachineEvent::Paused) => self.dispatch(PolicyEvent::Paused),
            Some(MachineEvent::Resumed) => self.dispatch(PolicyEvent::Resumed),
            Some(MachineEvent::Reset) => {
                self.log.line("the guest starts anew");
                self.tunnel.close();
                // It may have made another key, and has not answered yet.
                let _ = access::forget_host(&self.context.dir);
                self.record_ready(false);
                self.note_restart();
                self.dispatch(PolicyEvent::Reset);
            }
            Some(MachineEvent::Panicked) => self.on_panic(),
            Some(MachineEvent::Disk { reason }) => {
                self.log
                    .line(&format!("a disk of the guest failed: {reason}"));
            }
            Some(MachineEvent::Shutdown { by_guest }) => {
                self.dispatch(PolicyEvent::Shutdown { by_guest });
            }
            Some(MachineEvent::Exited { status, stderr }) => {
                let said = if stderr.is_empty() { "" } else { ": " };
                self.log
                    .line(&format!("QEMU ended ({status}){said}{stderr}"));
                if self.policy.state() == PolicyState::Starting && self.failure.is_none() {
                    let path = self.context.dir.file(StateFile::SerialLog);
                    self.failure = Some(SupervisorError::EarlyExit {
                        status: status.to_string(),
                        stderr,
                        console: log::last_lines(&path, CONSOLE_LINES),
                    });
                }
                self.on_machine_exit();
            }
            None => self.on_machine_exit(),
        }
    }

    fn on_machine_exit(&mut self) {
        self.machine_events = None;
        self.machine = None;
        self.measure_cpu();
        self.forget_mount();
        self.handle.shared.set_forward_port(None);
        self.tunnel.close();
        // A left port leads nowhere, and the next machine replaces it.
        let _ = self.context.dir.remove(StateFile::InternalSshPort);
        self.dispatch(PolicyEvent::Exited);
    }

    pub(super) fn on_message(&mut self, message: OwnerMessage) {
        match message {
            OwnerMessage::RequestLease { lane, reply } => {
                self.waiting.wait_for_lease(lane, reply);
                self.dispatch(PolicyEvent::LeaseRequested(lane));
            }
            OwnerMessage::RequestWake {
                lane,
                is_sign,
                reply,
            } => {
                self.waiting.wait_for_wake(reply);
                self.dispatch(if is_sign {
                    PolicyEvent::SignSpoken(lane)
                } else {
                    PolicyEvent::ClientSpoke(lane)
                });
            }
            OwnerMessage::LeaseDropped => {
                self.dispatch(PolicyEvent::LeaseDropped);
                if self.policy.open_leases() == 0 {
                    // What is used from here on, an idle guest uses.
                    self.measure_cpu();
                }
            }
            OwnerMessage::MountWorkspace { reply } => self.mount_for_client(reply),
            OwnerMessage::KeepAwakeBegun => {
                self.log.line("a command keeps the guest awake");
                self.dispatch(PolicyEvent::KeepAwakeBegun);
            }
            OwnerMessage::KeepAwakeEnded => {
                self.log
                    .line("a command that kept the guest awake has ended");
                self.dispatch(PolicyEvent::KeepAwakeEnded);
            }
            OwnerMessage::Request {
                request,
                limit,
                reply,
                client,
            } => {
                if client.has_left() {
                    // It gave up, and may by now have done something else about it.
                    let what = request.name();
                    return self.log.line(&format!(
                        "a request to {what} is not carried out: who asked for it has left"
                    ));
                }
                if let VmRequest::Stop { .. } = request {
                    self.stop_limit = limit.unwrap_or(STOP_LIMIT);
                }
                self.waiting.wait_for_request(request, reply, client);
                self.note_traffic(request == VmRequest::Hibernate);
                self.dispatch(PolicyEvent::Requested(request));
            }
            OwnerMessage::Configure {
                idle,
                client,
                reply,
            } => {
                if !client.has_left() {
                    self.configure(&idle);
                    let _ = reply.send(());
                }
            }
            OwnerMessage::Status { reply } => self.answer_status(reply),
        }
    }

    /// Sleeps by other settings from now on, and tells the next supervisor.
    fn configure(&mut self, change: &IdleChange) {
        let mut context = SupervisorContext::clone(&self.context);
        context.launch.idle = context.launch.idle.changed(change);
        let idle = context.launch.idle.clone();
        self.policy.change_settings(SleepSettings::new(&idle));
        self.log.line(&format!("other settings: {idle:?}"));
        self.context = Arc::new(context);
        if let Some(record) = &mut *self.lock_record() {
            record.launch.idle = idle;
            // What is not written down is what the next start says anyway.
            let _ = record.write(&self.context.dir);
        }
    }

    /// Tells the policy of the traffic so far. Where a client asked to pause the guest, another one
    /// that waits for the guest's answer counts as traffic: nothing would wake the guest for it.
    pub(super) fn note_traffic(&mut self, sleep_requested: bool) {
        let shared = &self.handle.shared;
        let at = if sleep_requested && shared.is_awaited() {
            Instant::now()
        } else {
            shared.last_traffic()
        };
        let sign = shared.last_sign();
        self.dispatch(PolicyEvent::Traffic(at));
        if let Some(sign) = sign {
            self.dispatch(PolicyEvent::SignOfLife(sign));
        }
    }

    /// Answers with what QEMU says, not with what is believed.
    fn answer_status(&mut self, reply: oneshot::Sender<VmStatus>) {
        match self.machine.clone() {
            Some(machine) => {
                let mut status = self.status(None);
                self.jobs.spawn(async move {
                    let paused = timeout(STATUS_LIMIT, jobs::is_paused(&machine)).await;
                    status.paused = paused.ok().flatten();
                    let _ = reply.send(status);
                    JobOutcome::Nothing
                });
            }
            None => {
                let asleep = matches!(
                    self.policy.state(),
                    PolicyState::Released | PolicyState::Restoring
                );
                let _ = reply.send(self.status(asleep.then_some(true)));
            }
        }
    }

    pub(super) fn on_job_outcome(&mut self, outcome: JobOutcome) {
        match outcome {
            JobOutcome::Adopted(result) => self.on_takeover_end(result),
            JobOutcome::Started(Ok(started)) => self.on_started(*started),
            JobOutcome::Started(Err(error)) => {
                self.failure.get_or_insert(error);
                self.dispatch(PolicyEvent::Exited);
            }
            JobOutcome::Ready { boot, result } => self.on_ready_outcome(boot, result),
            JobOutcome::Paused { paused, error } => {
                self.report_problem("the guest could not be paused", error);
                self.dispatch(PolicyEvent::PauseDone { paused });
            }
            JobOutcome::Resumed { running, error } => {
                self.report_problem("the guest could not be woken", error);
                match &self.machine {
                    // Paused again meanwhile, or its event was not seen: QEMU knows.
                    Some(machine) if running && self.policy.is_paused() => {
                        self.jobs.spawn(jobs::resume_again(machine.clone()));
                    }
                    _ => self.dispatch(PolicyEvent::ResumeDone { running }),
                }
            }
            JobOutcome::ResumedAgain { running } => {
                self.dispatch(PolicyEvent::ResumeDone { running });
            }
            // A look at a guest that has slept since says nothing any more.
            JobOutcome::WorkChecked { looked, found }
                if looked == self.runs && self.policy.state() == PolicyState::Running =>
            {
                self.work_problem = found.problem;
                self.counters = found.counters;
                self.teller = found.teller;
                self.note_traffic(self.policy.is_sleep_requested());
                self.work_checked(found.sign);
            }
            JobOutcome::Saved {
                saved,
                paused,
                problem,
            } => {
                self.cancel_save = None;
                if saved {
                    self.workspace_left();
                }
                if let Some(problem) = problem {
                    self.log.line(&problem);
                    self.problem = Some(problem);
                }
                self.dispatch(PolicyEvent::SaveDone { saved, paused });
            }
            JobOutcome::DiskError => self.problem = Some(DISK_ERROR.to_owned()),
            JobOutcome::ClockTold(is_set) => {
                self.see_to_workspace();
                if !is_set {
                    self.set_late_clock();
                }
            }
            JobOutcome::ClockNotSet => self.set_late_clock(),
            JobOutcome::Mounted { run, result } => self.on_mounted(run, result),
            JobOutcome::Quit(result) => {
                let saved = result.is_ok();
                self.report_problem("the memory could not be released", result.err());
                self.dispatch(PolicyEvent::QuitDone { saved });
            }
            JobOutcome::Restored(Ok(started)) if started.kind == StartKind::Booted => {
                self.on_started(*started);
                self.dispatch(PolicyEvent::Rebooted);
            }
            JobOutcome::Restored(Ok(started)) => {
                self.take_machine(*started);
                self.problem = None;
                // What happened while it was brought back; it may have ended already.
                self.drain_machine_events();
                match self.machine {
                    Some(_) => self.dispatch(PolicyEvent::Restored),
                    None => self.dispatch(PolicyEvent::RestoreFailed { kept: false }),
                }
            }
            JobOutcome::Restored(Err(RestoreFailure { error, kept })) => {
                self.report_problem("the guest could not be brought back", Some(chain(&error)));
                if !kept {
                    self.failure = Some(error);
                }
                self.dispatch(PolicyEvent::RestoreFailed { kept });
            }
            JobOutcome::StopFailed(why) => {
                self.log.line(&why);
                self.dispatch(PolicyEvent::StopFailed);
            }
            JobOutcome::LastWords(words) => self.on_last_words(words),
            JobOutcome::WorkChecked { .. } | JobOutcome::Nothing => {}
        }
    }

    /// The end of the search for a machine that a killed supervisor left. A client may have asked
    /// to stop it meanwhile.
    fn on_takeover_end(&mut self, result: Result<Option<Box<StartedMachine>>, SupervisorError>) {
        let takeover = std::mem::replace(&mut self.takeover, Takeover::Over);
        match (result, takeover) {
            (Ok(Some(started)), Takeover::StopRequested { force }) => {
                let kind = started.kind;
                self.take_machine(*started);
                if let StartKind::Adopted { paused: true, .. } = kind {
                    self.dispatch(PolicyEvent::Paused);
                }
                match kind {
                    StartKind::Adopted {
                        paused: false,
                        ready: false,
                    } => self.await_ready(false),
                    _ => self.dispatch(PolicyEvent::Ready),
                }
                self.perform(PolicyAction::ShutDown { force });
            }
            (Ok(Some(started)), _) => self.on_started(*started),
            (Ok(None), Takeover::StopRequested { .. }) => {
                self.failure.get_or_insert(SupervisorError::Stopped);
                self.dispatch(PolicyEvent::Exited);
            }
            (Ok(None), _) => drop(self.jobs.spawn(jobs::start(self.context.clone()))),
            (Err(error), _) => {
                // The machine is there still, so no client is told that it stopped.
                self.waiting.fail_requests(&error.failure());
                self.failure.get_or_insert(error);
                self.dispatch(PolicyEvent::Exited);
            }
        }
    }

    /// The machine of the start.
    fn on_started(&mut self, started: StartedMachine) {
        let kind = started.kind;
        self.take_machine(started);
        match kind {
            StartKind::Adopted { paused: true, .. } => {
                // It may have been asleep on the way to a save.
                self.doubt_workspace();
                self.dispatch(PolicyEvent::Adopted { paused: true });
            }
            StartKind::Restored => {
                self.doubt_workspace();
                // Its clock stood still meanwhile.
                self.drain_machine_events();
                self.dispatch(PolicyEvent::Ready);
                self.after_wake();
            }
            StartKind::Booted => self.await_ready(true),
            StartKind::Adopted {
                paused: false,
                ready: known,
            } => {
                self.await_ready(false);
                if known {
                    self.dispatch(PolicyEvent::Adopted { paused: false });
                }
            }
        }
    }

    fn take_machine(&mut self, started: StartedMachine) {
        self.handle.shared.set_forward_port(Some(started.port));
        let text = started.port.to_string();
        if let Err(error) = self
            .context
            .dir
            .write(StateFile::InternalSshPort, text.as_bytes())
        {
            self.context.sink.emit(Event::warning(chain(&error)));
        }
        if started.kind == StartKind::Booted {
            self.handle.shared.set_workspace_missing(false);
            self.handle.shared.set_agent_missing(false);
        }
        if self.context.launch.workspace != started.record.spec.workspace {
            // A machine that was taken over has what it was started with.
            let mut context = SupervisorContext::clone(&self.context);
            context
                .launch
                .workspace
                .clone_from(&started.record.spec.workspace);
            self.context = Arc::new(context);
        }
        let workspace = self.context.launch.workspace.clone();
        self.handle.shared.set_workspace(workspace);
        *self.lock_record() = Some(started.record);
        self.machine = Some(started.machine);
        self.machine_events = Some(started.events);
        self.measure_cpu();
    }
}
