//! The child's side: what runs when our program is started as `avocado step`.

use std::io::{self, Read, Write};
use std::process::{Command, ExitCode};
use std::sync::Mutex;

use avocado_events::{Event, Sink};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::namespace::{self, NamespaceError};
use crate::parent_death::die_with_parent;
use crate::protocol::{Failure, FailureOrigin, Line, Request};
use crate::{LoopMounts, Terminal};

/// Why a job failed. The parent gets the words of the whole chain, for people to read, and this.
pub trait JobError: std::error::Error + 'static {
    /// A stable word for the kind of failure, where something hangs on it: what the user is told
    /// to do, say.
    fn kind(&self) -> Option<&'static str>;
}

/// What a job has to work with.
pub struct Workplace<'a> {
    /// What it reports to.
    pub sink: &'a dyn Sink,
    /// The right to mount images, where it asked for that and the backend can do it.
    pub loop_mounts: Option<LoopMounts>,
    /// What a command of the user's talks to, where the job asked for it.
    pub terminal: Option<Terminal>,
}

impl Failure {
    fn of_namespace(error: &NamespaceError, is_refusal: bool) -> Self {
        let origin = if is_refusal {
            FailureOrigin::Namespace
        } else {
            FailureOrigin::Job(None)
        };
        Failure {
            origin,
            causes: chain(error),
        }
    }

    /// A failure of no particular kind.
    fn of(error: &dyn std::error::Error) -> Self {
        Failure {
            origin: FailureOrigin::Job(None),
            causes: chain(error),
        }
    }
}

/// Writes lines to the parent. The parent alone decides what a user sees of them.
struct Parent;

/// One line at a time, also when several tools report at once.
static OUTPUT: Mutex<()> = Mutex::new(());

fn say(line: &Line) {
    let Ok(mut text) = serde_json::to_vec(line) else {
        return;
    };
    text.push(b'\n');
    let _guard = OUTPUT.lock();
    // A parent that is gone has no use for the line, and its death ends this process too.
    let _ = io::stdout().write_all(&text);
}

impl Sink for Parent {
    fn emit(&self, event: Event) {
        say(&Line::Event(event));
    }
}

/// Whether this process is one that does a job.
pub(crate) fn is_worker() -> bool {
    WORKER.get().is_some()
}

/// Tells the parent that a tool is about to start. Outside a worker there is no parent to tell.
pub(crate) fn count_spawn() {
    if is_worker() {
        say(&Line::Spawned);
    }
}

static WORKER: std::sync::OnceLock<()> = std::sync::OnceLock::new();

/// The whole life of `avocado step`: reads the job from standard input, runs it behind the
/// published mounts and reports the result. To be called first thing, while the process has one
/// thread.
///
/// There are two such processes for each job. The outer one makes the namespaces and waits; the
/// inner one is the first process in them and does the work, so that its end ends everything it
/// started: a tool's children and a hook's daemons too.
pub fn main<J, R, E>(run: impl FnOnce(J, Workplace<'_>) -> Result<R, E>) -> ExitCode
where
    J: DeserializeOwned,
    R: Serialize,
    E: JobError,
{
    // The parent's death must not leave work behind; see `die_with_parent`.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let result = if is_inner() {
        let _ = WORKER.set(());
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        work(run).map(|value| say(&Line::Result(value)))
    } else {
        match wait_for_inner() {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&Line::Failure(failure));
            ExitCode::FAILURE
        }
    }
}

fn is_inner() -> bool {
    rustix::process::getpid().is_init()
}

/// Starts this program again as the first process of new namespaces.
fn wait_for_inner() -> Result<ExitCode, Failure> {
    // Before, because in a chroot its path is another one from inside the namespace.
    let program = std::env::current_exe().map_err(|e| Failure::of(&e))?;
    namespace::separate().map_err(|e| Failure::of_namespace(&e, true))?;
    let mut inner = Command::new(&program);
    inner.arg("step");
    die_with_parent(&mut inner);
    let status = inner.status().map_err(|e| Failure {
        origin: FailureOrigin::Job(None),
        causes: vec![format!("cannot start {}", program.display()), e.to_string()],
    })?;
    match status.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        Some(_) => Ok(ExitCode::FAILURE),
        None => Err(Failure {
            origin: FailureOrigin::Job(None),
            causes: vec![format!("the step was ended by a signal ({status})")],
        }),
    }
}

/// Ends whatever a tool left running: nothing of a step may outlive it, and a daemon that holds
/// the tool's output open would keep everybody waiting.
pub(crate) fn end_leftovers() {
    if !is_worker() {
        return;
    }
    // Numbers from a `/proc` of another namespace would be those of others.
    if !proc_is_ours() {
        return;
    }
    let own = rustix::process::getpid();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in numbers.filter_map(rustix::process::Pid::from_raw) {
        if pid != own {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn proc_is_ours() -> bool {
    std::fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == "1")
}

fn work<J, R, E>(
    run: impl FnOnce(J, Workplace<'_>) -> Result<R, E>,
) -> Result<serde_json::Value, Failure>
where
    J: DeserializeOwned,
    R: Serialize,
    E: JobError,
{
    let mut text = Vec::new();
    io::stdin()
        .read_to_end(&mut text)
        .map_err(|e| Failure::of(&e))?;
    let request: Request = serde_json::from_slice(&text).map_err(|e| Failure::of(&e))?;
    // In a namespace of its own that it could make, it is the host's policy that refuses a mount.
    namespace::enter(&request.view).map_err(|e| Failure::of_namespace(&e, e.is_refusal()))?;
    let job = serde_json::from_value(request.job).map_err(|e| Failure::of(&e))?;
    let terminal = request.terminal.map(Terminal::inherited).transpose();
    let workplace = Workplace {
        terminal: terminal.map_err(|e| Failure::of(&e))?,
        sink: &Parent,
        loop_mounts: request.loop_mounts.then(LoopMounts::granted),
    };
    let result = run(job, workplace).map_err(|e| Failure {
        origin: FailureOrigin::Job(e.kind().map(ToOwned::to_owned)),
        causes: chain(&e),
    })?;
    serde_json::to_value(result).map_err(|e| Failure::of(&e))
}

fn chain(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |e| e.source())
        .map(ToString::to_string)
        .collect()
}
