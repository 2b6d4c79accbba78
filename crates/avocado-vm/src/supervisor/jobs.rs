//! The work that the owner of the VM has begun and does not wait for: each job ends with an
//! outcome.

use std::sync::Arc;
use std::time::Duration;

use avocado_events::{Event, chain};
use avocado_qemu::{Machine, RunState, save_memory};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::context::SupervisorContext;
use super::error::SupervisorError;
use super::guest::{self, RunFailure};
use super::guest_workspace::{mount_workspace, unmount_workspace};
use super::log::{SupervisorLog, last_lines};
use super::machine_record::MachineRecord;
use super::saved_memory::SavedMemory;
use super::shared_state::SharedState;
use super::start::{self, RestoreFailure, StartedMachine};
use super::work::{self, WorkFound, WorkLook};
use crate::dir::{StateDir, StateFile};

/// How long QEMU may take to quit before it is killed.
const QUIT_LIMIT: Duration = Duration::from_secs(5);
/// How long a guest whose disks are to be trimmed may take to show that it has an agent.
const SIGN_LIMIT: Duration = Duration::from_secs(2);
/// How long one that slept may take to take the time, before it is shut down.
const WOKEN_LIMIT: Duration = Duration::from_secs(5);
/// How long a trim may take that a command may wait for.
const TRIM_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait between two presses of the power button.
const POWER_BUTTON_PAUSE: Duration = Duration::from_secs(15);
/// How long a guest without agent may take to bring one up after all.
const LATE_AGENT_LIMIT: Duration = Duration::from_secs(300);
/// How long the clock of a guest that was woken is not set, for its ssh to greet first.
const GREETING_WAIT: Duration = Duration::from_millis(300);
/// Lines of the console that go into an error.
pub(crate) const CONSOLE_LINES: usize = 40;

/// How a job ended.
#[derive(Debug)]
pub(crate) enum JobOutcome {
    /// The machine that was there already, if there was one.
    Adopted(Result<Option<Box<StartedMachine>>, SupervisorError>),
    /// The machine of the start.
    Started(Result<Box<StartedMachine>, SupervisorError>),
    /// Whether the guest answers: of this boot.
    Ready {
        boot: u64,
        result: Result<GuestAnswer, SupervisorError>,
    },
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
    WorkChecked {
        /// How often the guest had begun to run when it was looked at.
        looked: u64,
        found: WorkFound,
    },
    Saved {
        saved: bool,
        paused: bool,
        problem: Option<String>,
    },
    /// The guest stands still because of one of its disks.
    DiskError,
    /// The guest that woke was told the time (`true`), or could not be told.
    ClockTold(bool),
    /// A guest that answers late could not be told the time.
    ClockNotSet,
    /// The workspace is mounted, or why it is not.
    Mounted {
        /// How often the guest had begun to run when this was begun.
        run: u64,
        result: Result<(), String>,
    },
    /// The saved memory counts, and QEMU ended; or why not.
    Quit(Result<(), String>),
    Restored(Result<Box<StartedMachine>, RestoreFailure>),
    StopFailed(String),
    /// Why the guest's kernel panicked, in its own words.
    LastWords(String),
    /// Nothing that the owner needs to know.
    Nothing,
}

/// What a guest that was waited for has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuestAnswer {
    /// ssh and an agent, and it is set up.
    SetUp { clock_set: bool },
    /// ssh alone.
    WithoutAgent,
    /// Nothing: it may be of use all the same, because it did not just start.
    Silent,
}

/// How a guest that boots is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadyWait {
    /// Which boot it is.
    pub(crate) boot: u64,
    /// It must answer in time.
    pub(crate) certain: bool,
    pub(crate) limit: Duration,
}

pub(crate) async fn adopt(context: Arc<SupervisorContext>) -> JobOutcome {
    JobOutcome::Adopted(
        start::adopt_machine(&context)
            .await
            .map(|up| up.map(Box::new)),
    )
}

pub(crate) async fn start(context: Arc<SupervisorContext>) -> JobOutcome {
    JobOutcome::Started(start::start_machine(&context).await.map(Box::new))
}

pub(crate) async fn bring_back(
    context: Arc<SupervisorContext>,
    record: MachineRecord,
) -> JobOutcome {
    let started = start::bring_back_machine(&context, record).await;
    JobOutcome::Restored(started.map(Box::new))
}

/// Waits for a guest that boots, and sets it up.
pub(crate) async fn await_ready(
    context: Arc<SupervisorContext>,
    machine: Machine,
    port: u16,
    wait: ReadyWait,
    shared: SharedState,
    log: SupervisorLog,
) -> JobOutcome {
    let agent = machine.agent();
    let result = match guest::await_ready(port, &agent, wait.limit).await {
        Some(true) => {
            let clock_set = set_up(&context, &machine, &shared, &log).await;
            Ok(GuestAnswer::SetUp { clock_set })
        }
        Some(false) => {
            let text = "the guest has no agent: its clock is not set when it wakes, and it gets \
                        no workspace";
            context.sink.emit(Event::warning(text));
            Ok(GuestAnswer::WithoutAgent)
        }
        None if wait.certain => {
            let console = last_lines(&context.dir.file(StateFile::SerialLog), CONSOLE_LINES);
            let limit = Duration::from_secs(context.launch.ready_timeout_secs);
            Err(SupervisorError::NotReady { limit, console })
        }
        None => {
            let text = "the guest does not answer on its ssh port";
            context.sink.emit(Event::warning(text));
            Ok(GuestAnswer::Silent)
        }
    };
    let boot = wait.boot;
    JobOutcome::Ready { boot, result }
}

/// Says whether the guest was told the time.
async fn set_up(
    context: &SupervisorContext,
    machine: &Machine,
    shared: &SharedState,
    log: &SupervisorLog,
) -> bool {
    shared.set_agent_missing(false);
    // A clock of hardware is right to the second, and is read some time before this.
    let clock_set = guest::set_clock(&machine.agent(), log).await;
    for problem in guest::set_up(&machine.agent(), &context.launch, shared).await {
        context.sink.emit(Event::warning(problem));
    }
    clock_set
}

/// Sets up a guest whose agent comes late, if it comes.
pub(crate) async fn await_late_agent(
    context: Arc<SupervisorContext>,
    machine: Machine,
    shared: SharedState,
    log: SupervisorLog,
) -> JobOutcome {
    let agent = machine.agent();
    if timeout(LATE_AGENT_LIMIT, guest::await_agent(&agent))
        .await
        .is_ok()
    {
        log.line("the guest's agent answers now");
        if !set_up(&context, &machine, &shared, &log).await {
            return JobOutcome::ClockNotSet;
        }
    }
    JobOutcome::Nothing
}

/// See [`guest::trim`]. A guest that gives no sign of life is not waited for.
pub(crate) async fn trim(machine: Machine, limit: Duration, log: SupervisorLog) -> JobOutcome {
    let agent = machine.agent();
    if agent.with_limit(guest::COMMAND_LIMIT).sync().await.is_ok() {
        guest::trim(&agent, limit, &log).await;
    }
    JobOutcome::Nothing
}

/// Whether QEMU says that the guest is paused; none where it does not say.
pub(crate) async fn is_paused(machine: &Machine) -> Option<bool> {
    match machine.run_state().await {
        Ok(RunState::Paused) => Some(true),
        Ok(RunState::Running) => Some(false),
        Ok(RunState::Other(_)) | Err(_) => None,
    }
}

pub(crate) async fn pause(machine: Machine) -> JobOutcome {
    let error = machine.pause().await.err();
    let paused = is_paused(&machine).await == Some(true);
    JobOutcome::Paused {
        paused,
        error: error.map(|e| chain(&e)),
    }
}

/// Why a guest stands still that we did not pause.
pub(crate) async fn find_pause_cause(machine: Machine) -> JobOutcome {
    match machine.has_disk_error().await {
        Ok(true) => JobOutcome::DiskError,
        Ok(false) | Err(_) => JobOutcome::Nothing,
    }
}

pub(crate) async fn resume(machine: Machine) -> JobOutcome {
    match machine.resume().await {
        Ok(()) => JobOutcome::Resumed {
            running: true,
            error: None,
        },
        Err(error) => {
            let running = is_paused(&machine).await == Some(false);
            JobOutcome::Resumed {
                running,
                error: Some(chain(&error)),
            }
        }
    }
}

/// Another client of QEMU paused the guest in the instant of waking, or an event was not seen: what counts is
/// that it runs.
pub(crate) async fn resume_again(machine: Machine) -> JobOutcome {
    let _ = machine.resume().await;
    let running = is_paused(&machine).await == Some(false);
    JobOutcome::ResumedAgain { running }
}

/// Whether the guest works, where its processor time does not tell already.
pub(crate) async fn check_work(
    machine: Machine,
    look: WorkLook<impl Fn() -> u64>,
    looked: u64,
) -> JobOutcome {
    let found = work::find_work(&machine, look).await;
    JobOutcome::WorkChecked { looked, found }
}

/// Sets the clock of a guest that has just woken.
pub(crate) async fn after_wake(
    machine: Machine,
    shared: SharedState,
    log: SupervisorLog,
) -> JobOutcome {
    shared.wait_for_greeting(GREETING_WAIT).await;
    let is_set = guest::set_clock(&machine.agent(), &log).await;
    if is_set {
        shared.set_agent_missing(false);
    }
    shared.clock_set(is_set);
    JobOutcome::ClockTold(is_set)
}

/// Sets the clock of a guest whose agent does not answer yet: it may be slow, or do something else
/// meanwhile. To be ended when the guest sleeps.
pub(crate) async fn set_late_clock(
    machine: Machine,
    shared: SharedState,
    log: SupervisorLog,
) -> JobOutcome {
    guest::set_late_clock(&machine.agent(), &log).await;
    shared.set_agent_missing(false);
    shared.clock_set(true);
    JobOutcome::Nothing
}

/// Mounts the workspace where it is not. A guest that is known to have no agent is asked for a moment
/// whether it has one now.
pub(crate) async fn mount(machine: Machine, shared: SharedState, run: u64) -> JobOutcome {
    let agent = machine.agent();
    let work = async {
        if shared.is_agent_missing() {
            let sign = agent.with_limit(SIGN_LIMIT).sync().await;
            sign.map_err(|error| format!("it has no agent: {}", chain(&error)))?;
            shared.set_agent_missing(false);
        }
        let mounted = mount_workspace(&agent, &shared).await;
        mounted.map_err(|why| why.to_string())
    };
    let result = work.await;
    JobOutcome::Mounted { run, result }
}

/// Saves the memory of a paused guest. One whose workspace is to be unmounted runs for a moment for that:
/// what is mounted cannot be saved. `cancel` ends it early, when it is sent to or dropped.
pub(crate) async fn save(
    machine: Machine,
    dir: StateDir,
    unmount: bool,
    cancel: oneshot::Receiver<()>,
) -> JobOutcome {
    let work = async {
        let mut unknown = String::new();
        if unmount {
            machine.resume().await.map_err(|e| chain(&e))?;
            match unmount_workspace(&machine.agent()).await {
                Ok(()) => {}
                // QEMU saves no memory of a guest that has it mounted.
                Err(RunFailure::NotRun(why)) => {
                    unknown = format!(" (whether its workspace is unmounted is not known: {why})");
                }
                Err(RunFailure::Ended(why)) => return Err(why),
            }
            machine.pause().await.map_err(|e| chain(&e))?;
        }
        save_memory(&machine, &dir.file(StateFile::SavedMemory))
            .await
            .map_err(|e| format!("{}{unknown}", chain(&e)))
    };
    let result = tokio::select! {
        result = work => result.map_err(Some),
        // Whether it was asked for or the owner is gone.
        _ = cancel => Err(None),
    };
    match result {
        Ok(()) => JobOutcome::Saved {
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
            JobOutcome::Saved {
                saved: false,
                paused,
                problem,
            }
        }
    }
}

/// Makes the saved memory count, and ends QEMU.
pub(crate) async fn quit_saved(
    machine: Machine,
    dir: StateDir,
    record: MachineRecord,
) -> JobOutcome {
    if let Err(why) = commit_saved(&machine, &dir, &record).await {
        let _ = SavedMemory::discard(&dir);
        return JobOutcome::Quit(Err(why));
    }
    quit(machine).await;
    JobOutcome::Quit(Ok(()))
}

/// Memory and disks belong together only if no client of QEMU has let the guest run since its
/// memory was saved, as each of them may. What happens after the last look shows in the time of
/// the disks.
async fn commit_saved(
    machine: &Machine,
    dir: &StateDir,
    record: &MachineRecord,
) -> Result<(), String> {
    let unmoved = async || match machine.has_not_run_since_save().await {
        Ok(true) => Ok(()),
        Ok(false) => Err("another client of QEMU let the guest run meanwhile".to_owned()),
        Err(error) => Err(chain(&error)),
    };
    let saved = SavedMemory::of(record).map_err(|error| chain(&error))?;
    unmoved().await?;
    saved.write(dir).map_err(|error| chain(&error))?;
    unmoved().await
}

async fn quit(machine: Machine) {
    if !matches!(timeout(QUIT_LIMIT, machine.quit()).await, Ok(Ok(()))) {
        machine.kill();
        machine.exited().await;
    }
}

/// How a guest is shut down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShutDown {
    pub(crate) force: bool,
    pub(crate) paused: bool,
    /// See [`trim`].
    pub(crate) trim: bool,
    /// How long it may take.
    pub(crate) limit: Duration,
}

/// Lets the guest power off, or ends it.
pub(crate) async fn shut_down(machine: Machine, how: ShutDown, log: SupervisorLog) -> JobOutcome {
    if how.force {
        quit(machine).await;
        return JobOutcome::Nothing;
    }
    let ask = async {
        if how.paused
            && let Err(error) = machine.resume().await
        {
            log.line(&format!(
                "the guest cannot be woken to stop: {}",
                chain(&error)
            ));
        }
        let agent = machine.agent();
        // Of a guest that does not answer nothing is asked for that it can do without. One that slept has
        // work to do first, and what it writes gets the time of then.
        let answers = if how.paused {
            let limit = WOKEN_LIMIT.min(how.limit / 4);
            agent.with_limit(limit).set_clock().await.is_ok()
        } else {
            agent.with_limit(SIGN_LIMIT).sync().await.is_ok()
        };
        if how.trim && answers {
            guest::trim(&agent, TRIM_LIMIT.min(how.limit / 4), &log).await;
        }
        if let Err(error) = agent.with_limit(QUIT_LIMIT).shutdown().await {
            log.line(&format!(
                "the guest's agent does not shut it down: {}",
                chain(&error)
            ));
            let _ = machine.power_down().await;
        }
        // A guest that was busy booting may have overheard it.
        loop {
            sleep(POWER_BUTTON_PAUSE).await;
            let _ = machine.power_down().await;
        }
    };
    tokio::select! {
        _ = machine.exited() => JobOutcome::Nothing,
        () = ask => JobOutcome::Nothing,
        () = sleep(how.limit) => JobOutcome::StopFailed(format!(
            "the guest has not powered off within {} s",
            how.limit.as_secs()
        )),
    }
}
