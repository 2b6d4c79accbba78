//! What happens to the VM, turned into facts.

use std::sync::Arc;

use avocado_events::Event;
use avocado_qemu::MachineEvent;

use super::{
    Action, CONSOLE, Context, Error, Fact, File, How, Message, NotRestored, Outcome, Owner,
    PoisonError, Request, STOP, State, Up, chain, jobs, log,
};

/// Why a guest stands still whom nobody paused.
const DISK_ERROR: &str = "the guest stands still because one of its disks cannot be written or read: \
                          most likely the file system of the state directory is full. Free some \
                          space; the next connection tries again";

impl Owner {
    /// Takes every event that is there.
    pub(super) fn catch_up(&mut self) {
        while let Some(events) = &mut self.events {
            match events.try_recv() {
                Ok(event) => self.event(Some(event)),
                Err(_) => break,
            }
        }
    }

    pub(super) fn event(&mut self, event: Option<MachineEvent>) {
        match event {
            Some(MachineEvent::Paused) => self.feed(Fact::Paused),
            Some(MachineEvent::Resumed) => self.feed(Fact::Resumed),
            Some(MachineEvent::Reset) => {
                self.log.line("the guest starts anew");
                self.tunnel.close();
                self.feed(Fact::Reset);
            }
            Some(MachineEvent::Disk { reason }) => {
                self.log
                    .line(&format!("a disk of the guest failed: {reason}"));
            }
            Some(MachineEvent::Shutdown { by_guest }) => self.feed(Fact::Shutdown { by_guest }),
            Some(MachineEvent::Exited { status, stderr }) => {
                let said = if stderr.is_empty() { "" } else { ": " };
                self.log
                    .line(&format!("QEMU ended ({status}){said}{stderr}"));
                if self.policy.state() == State::Starting && self.failure.is_none() {
                    let path = self.context.dir.file(File::SerialLog);
                    self.failure = Some(Error::EarlyExit {
                        status: status.to_string(),
                        stderr,
                        console: log::last_lines(&path, CONSOLE),
                    });
                }
                self.exited();
            }
            None => self.exited(),
        }
    }

    pub(super) fn exited(&mut self) {
        self.events = None;
        self.machine = None;
        self.used = None;
        self.hub.gate.set_port(None);
        self.tunnel.close();
        let _ = self.context.dir.remove(File::InternalSshPort);
        self.feed(Fact::Exited);
    }

    pub(super) fn message(&mut self, message: Message) {
        match message {
            Message::Open { lane, reply } => {
                self.opening.push((lane, reply));
                self.feed(Fact::Opened(lane));
            }
            Message::Want { lane, reply } => {
                self.wanting.push(reply);
                self.feed(Fact::Wanted(lane));
            }
            Message::Closed => self.feed(Fact::Closed),
            Message::Ask {
                request,
                limit,
                reply,
            } => {
                if let Request::Stop { .. } = request {
                    self.stop_limit = limit.unwrap_or(STOP);
                }
                self.asking.push((request, reply));
                self.heed(request == Request::Hibernate);
                self.feed(Fact::Asked(request));
            }
            Message::Status { reply } => self.answer_status(reply),
        }
    }

    pub(super) fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Adopted(result) => self.adopted(result),
            Outcome::Up(Ok(up)) => self.up(*up),
            Outcome::Up(Err(error)) => {
                self.failure.get_or_insert(error);
                self.feed(Fact::Exited);
            }
            Outcome::Ready(Ok(())) => self.feed(Fact::Ready),
            Outcome::Ready(Err(error)) => {
                // Nothing of a start that failed is left.
                self.failure.get_or_insert(error);
                match &self.machine {
                    Some(machine) => machine.kill(),
                    None => self.feed(Fact::Exited),
                }
            }
            Outcome::Paused { paused, error } => {
                self.trouble("the guest could not be paused", error);
                self.feed(Fact::PauseDone { paused });
            }
            Outcome::Resumed { running, error } => {
                self.trouble("the guest could not be woken", error);
                match &self.machine {
                    // Paused again meanwhile, or its event was not seen: QEMU knows.
                    Some(machine) if running && self.policy.paused() => {
                        self.jobs.spawn(jobs::resume_again(machine.clone()));
                    }
                    _ => self.feed(Fact::ResumeDone { running }),
                }
            }
            Outcome::ResumedAgain { running } => self.feed(Fact::ResumeDone { running }),
            Outcome::Work { busy, problem } => {
                self.problem = problem;
                self.heed(self.policy.hurried());
                self.feed(Fact::Work { busy });
            }
            Outcome::Saved {
                saved,
                paused,
                problem,
            } => {
                self.hurry = None;
                if let Some(problem) = problem {
                    self.log.line(&problem);
                    self.problem = Some(problem);
                }
                self.feed(Fact::SaveDone { saved, paused });
            }
            Outcome::DiskError => self.problem = Some(DISK_ERROR.to_owned()),
            Outcome::Mounted(mounted) => self.unmounted = !mounted,
            Outcome::Quit(result) => {
                let saved = result.is_ok();
                self.trouble("the memory could not be released", result.err());
                self.feed(Fact::QuitDone { saved });
            }
            Outcome::Restored(Ok(up)) if up.how == How::Booted => {
                self.up(*up);
                self.feed(Fact::Rebooted);
            }
            Outcome::Restored(Ok(up)) => {
                self.take(*up);
                self.problem = None;
                // What happened while it was brought back; it may have ended already.
                self.catch_up();
                match self.machine {
                    Some(_) => self.feed(Fact::Restored),
                    None => self.feed(Fact::RestoreFailed { kept: false }),
                }
            }
            Outcome::Restored(Err(NotRestored { error, kept })) => {
                self.trouble("the guest could not be brought back", Some(chain(&error)));
                if !kept {
                    self.failure = Some(error);
                }
                self.feed(Fact::RestoreFailed { kept });
            }
            Outcome::StopFailed(why) => {
                self.log.line(&why);
                self.feed(Fact::StopFailed);
            }
            Outcome::Nothing => {}
        }
    }

    pub(super) fn trouble(&mut self, what: &str, why: Option<String>) {
        if let Some(why) = why {
            let problem = format!("{what}: {why}");
            self.log.line(&problem);
            self.problem = Some(problem);
        }
    }

    /// The end of looking for a machine that is there. Somebody may have asked to stop meanwhile.
    fn adopted(&mut self, result: Result<Option<Box<Up>>, Error>) {
        let stop = self.adopting.take().flatten();
        match (result, stop) {
            (Ok(Some(up)), None) => self.up(*up),
            (Ok(Some(up)), Some(force)) => {
                let how = up.how;
                self.take(*up);
                if let How::Adopted { paused: true, .. } = how {
                    self.feed(Fact::Paused);
                }
                match how {
                    How::Adopted {
                        paused: false,
                        ready: false,
                    } => self.await_ready(false),
                    _ => self.feed(Fact::Ready),
                }
                self.act(Action::ShutDown { force });
            }
            (Ok(None), None) => drop(self.jobs.spawn(jobs::up(self.context.clone()))),
            (Ok(None), Some(_)) => {
                self.failure.get_or_insert(Error::Stopped);
                self.feed(Fact::Exited);
            }
            (Err(error), _) => {
                // The machine is there still, so nobody is told that it stopped.
                for (_, reply) in self.asking.drain(..) {
                    let _ = reply.send(Err(error.failure()));
                }
                self.failure.get_or_insert(error);
                self.feed(Fact::Exited);
            }
        }
    }

    /// The machine of the start.
    pub(super) fn up(&mut self, up: Up) {
        let how = up.how;
        self.take(up);
        match how {
            How::Adopted { paused: true, .. } => {
                // It may have been asleep on the way to a save.
                self.unmounted = self.context.launch.workspace.is_some();
                self.feed(Fact::Adopted { paused: true });
            }
            How::Restored => {
                self.unmounted = self.context.launch.workspace.is_some();
                // Its clock stood still meanwhile.
                self.catch_up();
                self.feed(Fact::Ready);
                self.after_wake();
            }
            How::Booted => self.await_ready(true),
            How::Adopted {
                paused: false,
                ready: known,
            } => {
                self.await_ready(false);
                if known {
                    self.feed(Fact::Adopted { paused: false });
                }
            }
        }
    }

    /// Waits for a guest that answers; `certain`: or else the start has failed.
    fn await_ready(&mut self, certain: bool) {
        if let (Some(machine), Some(port)) = (self.machine.clone(), self.hub.gate.port()) {
            let (context, log) = (self.context.clone(), self.log.clone());
            self.jobs
                .spawn(jobs::ready(context, machine, port, certain, log));
        }
    }

    pub(super) fn take(&mut self, up: Up) {
        self.hub.gate.set_port(Some(up.port));
        let text = up.port.to_string();
        if let Err(error) = self
            .context
            .dir
            .write(File::InternalSshPort, text.as_bytes())
        {
            self.context.sink.emit(Event::warning(chain(&error)));
        }
        if up.how == How::Booted {
            self.unmounted = false;
        }
        if self.context.launch.workspace != up.record.spec.workspace {
            // A machine that was taken over has what it was started with.
            let mut context = Context::clone(&self.context);
            context
                .launch
                .workspace
                .clone_from(&up.record.spec.workspace);
            self.context = Arc::new(context);
        }
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Some(up.record);
        self.machine = Some(up.machine);
        self.events = Some(up.events);
        self.measure();
    }
}
