//! What the policy wants, done: at once, or by a job.

use std::time::Instant;

use avocado_qemu::Machine;
use serde_json::json;
use tokio::sync::oneshot;

use super::{
    Action, BUSY, Error, Fact, File, Lease, Owner, PoisonError, Record, Refusal, Request, Saved,
    chain, jobs,
};

impl Owner {
    pub(super) fn act(&mut self, action: Action) {
        let machine = self.machine.clone();
        let dir = self.context.dir.clone();
        match (action, machine) {
            (Action::Grant, _) => {
                for (lane, reply) in self.opening.drain(..) {
                    // A client that went away meanwhile drops its lease at once.
                    let _ = reply.send(Ok(Lease::new(lane, self.hub.clone())));
                }
                for reply in self.wanting.drain(..) {
                    let _ = reply.send(Ok(()));
                }
            }
            (Action::Refuse(why), _) => {
                for (_, reply) in self.opening.drain(..) {
                    let _ = reply.send(Err(why));
                }
                for reply in self.wanting.drain(..) {
                    let _ = reply.send(Err(why));
                }
            }
            (Action::Done(request), _) => self.answer(request, Ok(())),
            (Action::Denied(request, why), _) => self.answer(request, Err(why)),
            (Action::HurrySave, _) => drop(self.hurry.take()),
            (Action::Discard, _) => {
                if let Err(error) = Saved::discard(&dir) {
                    self.trouble("saved memory is still there", Some(chain(&error)));
                }
                let _ = dir.remove(File::SavedMemory);
            }
            (Action::AfterWake, _) => self.after_wake(),
            (Action::Restore, _) => match self.recorded() {
                Some(record) => {
                    let record = Record {
                        identity: None,
                        ..record
                    };
                    self.jobs
                        .spawn(jobs::bring_back(self.context.clone(), record));
                }
                None => self.facts.push_back(Fact::RestoreFailed { kept: false }),
            },
            (Action::Pause, Some(machine)) => drop(self.jobs.spawn(jobs::pause(machine))),
            (Action::Resume, Some(machine)) => drop(self.jobs.spawn(jobs::resume(machine))),
            (Action::Look, Some(machine)) => self.look(machine),
            (Action::Save, Some(machine)) => {
                let (hurry, hurried) = oneshot::channel();
                self.hurry = Some(hurry);
                self.tunnel.close();
                let workspace = self.context.launch.workspace.is_some() && !self.unmounted;
                self.unmounted |= workspace;
                self.jobs
                    .spawn(jobs::save(machine, dir, workspace, hurried));
            }
            (Action::Quit, Some(machine)) => match self.recorded() {
                Some(record) => drop(self.jobs.spawn(jobs::quit_saved(machine, dir, record))),
                None => self.facts.push_back(Fact::QuitDone { saved: false }),
            },
            (Action::SetUp, Some(machine)) => {
                self.jobs
                    .spawn(jobs::set_up_again(self.context.clone(), machine));
            }
            (Action::ShutDown { force }, Some(machine)) => {
                if let Some(job) = self.stopping.take() {
                    job.abort();
                }
                let (paused, log) = (self.policy.paused(), self.log.clone());
                let job = jobs::shut_down(machine, force, paused, self.stop_limit, log);
                self.stopping = Some(self.jobs.spawn(job));
            }
            // It may be there: what is taken over must not be left half way.
            (Action::ShutDown { force }, None) if self.adopting.is_some() => {
                self.adopting = Some(Some(force));
            }
            (Action::ShutDown { .. }, None) => {
                // There is nothing yet but preparations.
                self.failure.get_or_insert(Error::Stopped);
                self.jobs.abort_all();
                self.facts.push_back(Fact::Exited);
            }
            // QEMU has just ended: its event is on the way.
            (Action::Pause, None) => self.facts.push_back(Fact::PauseDone { paused: false }),
            (Action::Resume, None) => self.facts.push_back(Fact::ResumeDone { running: false }),
            (Action::Look, None) => self.facts.push_back(Fact::Work { busy: true }),
            (Action::Save, None) => {
                let (saved, paused) = (false, true);
                self.facts.push_back(Fact::SaveDone { saved, paused });
            }
            (Action::Quit, None) => self.facts.push_back(Fact::QuitDone { saved: false }),
            (Action::SetUp, None) => {}
        }
    }

    /// What is written down about the machine.
    fn recorded(&self) -> Option<Record> {
        let record = self.record.lock();
        record.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn after_wake(&mut self) {
        self.notify.hint("vm.notify.woke", json!({}));
        self.measure();
        self.set_clock();
    }

    pub(super) fn set_clock(&mut self) {
        if let Some(machine) = self.machine.clone() {
            let log = self.log.clone();
            let job = self
                .jobs
                .spawn(jobs::after_wake(machine, self.unmounted, log));
            if let Some(earlier) = self.waking.replace(job) {
                earlier.abort();
            }
        }
    }

    /// Notes the processor time that QEMU used so far.
    pub(super) fn measure(&mut self) {
        let usage = self.machine.as_ref().and_then(Machine::usage);
        self.used = usage.map(|usage| (Instant::now(), usage.cpu_ms));
    }

    /// Finds out whether the guest works.
    pub(super) fn look(&mut self, machine: Machine) {
        let before = self.used;
        self.measure();
        let share = before.zip(self.used).map(|((then, had), (now, has))| {
            let time = now.duration_since(then).as_secs_f64() * 1000.0;
            has.saturating_sub(had) as f64 / time.max(1.0)
        });
        let busy = self.policy.open() > 0 && share.is_some_and(|share| share > BUSY);
        if !busy && self.context.launch.idle.containers_keep_awake {
            self.jobs.spawn(jobs::work(machine));
        } else {
            self.facts.push_back(Fact::Work { busy });
        }
    }

    /// Answers everybody who asked for this.
    pub(super) fn answer(&mut self, request: Request, result: Result<(), Refusal>) {
        let same =
            |asked: &Request| std::mem::discriminant(asked) == std::mem::discriminant(&request);
        let mut failure = result.err().map(Refusal::failure);
        if let (Some(failure), Some(problem)) = (&mut failure, &self.problem) {
            failure.causes.push(problem.clone());
        }
        for (_, reply) in self.asking.extract_if(.., |(asked, _)| same(asked)) {
            let _ = reply.send(match &failure {
                None => Ok(()),
                Some(failure) => Err(failure.clone()),
            });
        }
    }
}
