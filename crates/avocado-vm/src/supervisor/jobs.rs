//! The work that the owner of the VM has begun and does not wait for: each job ends with an
//! outcome.

use std::sync::Arc;
use std::time::Duration;

use avocado_events::Event;
use avocado_qemu::{Machine, RunState};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::bring_up::{self, Context, NotRestored, Up};
use super::error::Error;
use super::guest;
use super::log::{self, Log};
use super::record::{Record, Saved};
use crate::dir::{File, StateDir};
use avocado_events::chain;

/// How long QEMU may take to quit before it is killed.
const QUIT: Duration = Duration::from_secs(5);
/// How long to wait between two presses of the power button.
const PRESS: Duration = Duration::from_secs(15);
/// How long a guest without agent may take to bring one up after all.
const LATE_AGENT: Duration = Duration::from_secs(300);
/// Lines of the console that go into an error.
pub(crate) const CONSOLE: usize = 40;

/// How a job ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The machine that was there already, if there was one.
    Adopted(Result<Option<Box<Up>>, Error>),
    /// The machine of the start.
    Up(Result<Box<Up>, Error>),
    /// Whether the guest answers.
    Ready(Result<(), Error>),
    /// QEMU was asked to pause. `paused` is what it then says.
    Paused {
        paused: bool,
        error: Option<String>,
    },
    /// QEMU was asked to go on.
    Resumed {
        running: bool,
        error: Option<String>,
    },
    /// The same, where its words and its events did not agree: this is how it is.
    ResumedAgain {
        running: bool,
    },
    Work {
        busy: bool,
        problem: Option<String>,
    },
    Saved {
        saved: bool,
        paused: bool,
        problem: Option<String>,
    },
    /// The guest stands still because of one of its disks.
    DiskError,
    /// The workspace is mounted again, or not.
    Mounted(bool),
    /// The saved memory counts, and QEMU ended; or why not.
    Quit(Result<(), String>),
    Restored(Result<Box<Up>, NotRestored>),
    StopFailed(String),
    /// Nothing that the owner needs to know.
    Nothing,
}

pub(crate) async fn adopt(context: Arc<Context>) -> Outcome {
    Outcome::Adopted(bring_up::adopt(&context).await.map(|up| up.map(Box::new)))
}

pub(crate) async fn up(context: Arc<Context>) -> Outcome {
    Outcome::Up(bring_up::start(&context).await.map(Box::new))
}

pub(crate) async fn bring_back(context: Arc<Context>, record: Record) -> Outcome {
    let up = bring_up::bring_back(&context, record).await;
    Outcome::Restored(up.map(Box::new))
}

/// Waits for a guest that boots, and sets it up. `certain`: it must answer in time.
pub(crate) async fn ready(
    context: Arc<Context>,
    machine: Machine,
    port: u16,
    certain: bool,
    log: Log,
) -> Outcome {
    let limit = Duration::from_secs(context.launch.ready_timeout_secs);
    let agent = machine.agent();
    match guest::ready(port, &agent, limit).await {
        Some(true) => set_up(&context, &machine).await,
        Some(false) => {
            let text = "the guest has no agent: its clock is not set when it wakes, and it gets \
                        no workspace";
            context.sink.emit(Event::warning(text));
            tokio::spawn(async move {
                if timeout(LATE_AGENT, guest::agent_answers(&agent))
                    .await
                    .is_ok()
                {
                    log.line("the guest's agent answers now");
                    set_up(&context, &machine).await;
                }
            });
        }
        None if certain => {
            let console = log::last_lines(&context.dir.file(File::SerialLog), CONSOLE);
            return Outcome::Ready(Err(Error::NotReady { limit, console }));
        }
        None => {
            let text = "the guest does not answer on its ssh port";
            context.sink.emit(Event::warning(text));
        }
    }
    Outcome::Ready(Ok(()))
}

async fn set_up(context: &Context, machine: &Machine) {
    for problem in guest::set_up(&machine.agent(), &context.launch).await {
        context.sink.emit(Event::warning(problem));
    }
}

/// The guest booted again by itself.
pub(crate) async fn set_up_again(context: Arc<Context>, machine: Machine) -> Outcome {
    let agent = machine.agent();
    if timeout(LATE_AGENT, guest::agent_answers(&agent))
        .await
        .is_ok()
    {
        set_up(&context, &machine).await;
    }
    Outcome::Nothing
}

/// Whether QEMU says that the guest is paused; none where it does not say.
pub(crate) async fn is_paused(machine: &Machine) -> Option<bool> {
    match machine.run_state().await {
        Ok(RunState::Paused) => Some(true),
        Ok(RunState::Running) => Some(false),
        Ok(RunState::Other(_)) | Err(_) => None,
    }
}

pub(crate) async fn pause(machine: Machine) -> Outcome {
    let error = machine.pause().await.err();
    let paused = is_paused(&machine).await == Some(true);
    Outcome::Paused {
        paused,
        error: error.map(|e| chain(&e)),
    }
}

/// Why a guest stands still that we did not pause.
pub(crate) async fn why_paused(machine: Machine) -> Outcome {
    match machine.has_disk_error().await {
        Ok(true) => Outcome::DiskError,
        Ok(false) | Err(_) => Outcome::Nothing,
    }
}

pub(crate) async fn resume(machine: Machine) -> Outcome {
    match machine.resume().await {
        Ok(()) => Outcome::Resumed {
            running: true,
            error: None,
        },
        Err(error) => {
            let running = is_paused(&machine).await == Some(false);
            Outcome::Resumed {
                running,
                error: Some(chain(&error)),
            }
        }
    }
}

/// Somebody paused the guest in the instant of waking, or an event was not seen: what counts is
/// that it runs.
pub(crate) async fn resume_again(machine: Machine) -> Outcome {
    let _ = machine.resume().await;
    let running = is_paused(&machine).await == Some(false);
    Outcome::ResumedAgain { running }
}

/// Whether containers run, where its processor time does not tell already that it works.
pub(crate) async fn work(machine: Machine) -> Outcome {
    match guest::containers(&machine.agent()).await {
        Ok(busy) => Outcome::Work {
            busy,
            problem: None,
        },
        Err(error) => Outcome::Work {
            // Better awake for nothing than asleep with work.
            busy: true,
            problem: Some(format!(
                "it stays awake because nobody knows whether containers run: {}",
                chain(&error)
            )),
        },
    }
}

/// Sets the clock of a guest that has just woken; mounts its workspace if that was unmounted.
pub(crate) async fn after_wake(machine: Machine, mount: bool, log: Log) -> Outcome {
    let agent = machine.agent();
    match agent.with_limit(guest::COMMAND).set_clock().await {
        Ok(error) => log.line(&format!(
            "the guest's clock is set; it is wrong by {error} ms"
        )),
        Err(error) => log.line(&format!("the guest's clock is not set: {}", chain(&error))),
    }
    if !mount {
        return Outcome::Nothing;
    }
    match guest::mount(&agent).await {
        Ok(()) => Outcome::Mounted(true),
        Err(why) => {
            log.line(&format!("the workspace is not mounted again: {why}"));
            Outcome::Mounted(false)
        }
    }
}

/// Saves the memory of a paused guest. A mounted workspace cannot be saved: the guest runs for a
/// moment to unmount it. `hurry` ends it early.
pub(crate) async fn save(
    machine: Machine,
    dir: StateDir,
    workspace: bool,
    hurry: oneshot::Receiver<()>,
) -> Outcome {
    let work = async {
        if workspace {
            machine.resume().await.map_err(|e| chain(&e))?;
            guest::unmount(&machine.agent()).await?;
            machine.pause().await.map_err(|e| chain(&e))?;
        }
        machine
            .save(&dir.file(File::SavedMemory))
            .await
            .map_err(|e| chain(&e))
    };
    let result = tokio::select! {
        result = work => result.map_err(Some),
        // Whether it was asked for or the owner is gone.
        _ = hurry => Err(None),
    };
    match result {
        Ok(()) => Outcome::Saved {
            saved: true,
            paused: true,
            problem: None,
        },
        Err(why) => {
            // Wanted again: then it may as well run. Otherwise it goes on sleeping.
            let paused = match (is_paused(&machine).await, &why) {
                (Some(false), Some(_)) => {
                    let _ = machine.pause().await;
                    is_paused(&machine).await != Some(false)
                }
                (paused, _) => paused != Some(false),
            };
            let problem = why.map(|why| format!("its memory is not released: {why}"));
            Outcome::Saved {
                saved: false,
                paused,
                problem,
            }
        }
    }
}

/// Makes the saved memory count, and ends QEMU.
pub(crate) async fn quit_saved(machine: Machine, dir: StateDir, record: Record) -> Outcome {
    if let Err(why) = make_count(&machine, &dir, &record).await {
        let _ = Saved::discard(&dir);
        return Outcome::Quit(Err(why));
    }
    quit(machine).await;
    Outcome::Quit(Ok(()))
}

/// Memory and disks belong together only if nobody has let the guest run since its memory was
/// saved, as everybody may who talks to QEMU. What happens after the last look shows in the time of
/// the disks.
async fn make_count(machine: &Machine, dir: &StateDir, record: &Record) -> Result<(), String> {
    let unmoved = async || match machine.is_as_saved().await {
        Ok(true) => Ok(()),
        Ok(false) => Err("somebody let the guest run meanwhile".to_owned()),
        Err(error) => Err(chain(&error)),
    };
    let saved = Saved::of(record).map_err(|error| chain(&error))?;
    unmoved().await?;
    saved.write(dir).map_err(|error| chain(&error))?;
    unmoved().await
}

async fn quit(machine: Machine) {
    if !matches!(timeout(QUIT, machine.quit()).await, Ok(Ok(()))) {
        machine.kill();
        machine.exited().await;
    }
}

/// Lets the guest power off, or ends it.
pub(crate) async fn shut_down(
    machine: Machine,
    force: bool,
    paused: bool,
    limit: Duration,
    log: Log,
) -> Outcome {
    if force {
        quit(machine).await;
        return Outcome::Nothing;
    }
    let ask = async {
        if paused && let Err(error) = machine.resume().await {
            log.line(&format!(
                "the guest cannot be woken to stop: {}",
                chain(&error)
            ));
        }
        if let Err(error) = machine.agent().with_limit(QUIT).shutdown().await {
            log.line(&format!(
                "the guest's agent does not shut it down: {}",
                chain(&error)
            ));
            let _ = machine.power_down().await;
        }
        // A guest that was busy booting may have overheard it.
        loop {
            sleep(PRESS).await;
            let _ = machine.power_down().await;
        }
    };
    tokio::select! {
        _ = machine.exited() => Outcome::Nothing,
        () = ask => Outcome::Nothing,
        () = sleep(limit) => Outcome::StopFailed(format!(
            "the guest has not powered off within {} s",
            limit.as_secs()
        )),
    }
}
