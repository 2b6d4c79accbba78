//! The child's side: what runs when our program is started as `avocado step`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Mutex, OnceLock};

use avocado_events::{Event, Sink};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::namespace::{self, NamespaceError};
use crate::parent_death::die_with_parent;
use crate::protocol::{Failure, FailureOrigin, Line, Place, Request, Work};
use crate::remote::worker as remote;
use crate::{Emulation, LoopMounts, Terminal, tool_identity};

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
    /// PATH for tools, where the job is done.
    pub search_path: OsString,
}

impl Failure {
    pub(crate) fn of_namespace(error: &NamespaceError, is_refusal: bool) -> Self {
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

    /// What the parent shares is not there, or not any more.
    pub(crate) fn of_share(error: &dyn std::error::Error) -> Self {
        Failure {
            origin: FailureOrigin::Share,
            causes: chain(error),
        }
    }

    /// A failure of no particular kind.
    pub(crate) fn of(error: &dyn std::error::Error) -> Self {
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
    let _ = match SOCKET.get() {
        Some(mut socket) => socket.write_all(&text),
        None => io::stdout().write_all(&text),
    };
}

/// Where this process called its parent; otherwise they talk over its standard streams.
static SOCKET: OnceLock<UnixStream> = OnceLock::new();

/// What the parent says.
fn parent() -> io::Result<Box<dyn Read + Send>> {
    Ok(match SOCKET.get() {
        Some(socket) => Box::new(socket.try_clone()?),
        None => Box::new(io::stdin()),
    })
}

fn call(place: &Path) -> io::Result<()> {
    let socket = UnixStream::connect(place)?;
    let _ = SOCKET.set(socket);
    Ok(())
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

/// What `avocado step` is told in a container, where it makes no namespaces itself.
pub(crate) const IN_CONTAINER: &str = "--in-container";
/// Or on the host, where its users are to be apart from those of the host.
pub(crate) const USERS_APART: &str = "--users-apart";
/// What helps such a one.
const MAP_USERS: &str = "--map-users";
/// And where it calls its parent, where its standard streams are the user's.
pub(crate) const CALL: &str = "--call";

static WORKER: OnceLock<()> = OnceLock::new();

/// How `avocado step` was started.
#[derive(Debug, Clone)]
pub struct WorkerStart {
    /// A container engine started it.
    pub in_container: bool,
    /// It is to have a user namespace also where this is root.
    pub users_apart: bool,
    /// It gives its parent's user namespace its users, and does nothing else.
    pub maps_users: bool,
    /// The socket at which its parent waits for it; without one they talk over its standard streams.
    pub socket: Option<PathBuf>,
    /// PATH, as this process has it.
    pub search_path: OsString,
}

/// The whole life of `avocado step`: reads the job from standard input, runs it behind the
/// published mounts and reports the result. To be called first thing, while the process has one
/// thread.
///
/// On the host there are two such processes for each job: the outer one makes the namespaces and
/// waits; the inner one is the first process in them and does the work, so that its end ends
/// everything it started: a tool's children and a hook's daemons too. In a container there is the
/// inner one alone.
pub fn main<J, R, E>(
    start: WorkerStart,
    run: impl FnOnce(J, Workplace<'_>) -> Result<R, E>,
) -> ExitCode
where
    J: DeserializeOwned,
    R: Serialize,
    E: JobError,
{
    // The parent's death must not leave work behind; see `die_with_parent`.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    if start.maps_users {
        return namespace::map_users_of_parent();
    }
    if let Some(place) = &start.socket
        && let Err(error) = call(place)
    {
        // Standard output is the user's.
        let place = place.display();
        let _ = writeln!(
            io::stderr(),
            "the step cannot call avocado at {place}: {error}"
        );
        return ExitCode::FAILURE;
    }
    let result = if is_first() {
        let _ = WORKER.set(());
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        work(run, start.search_path).map(|value| say(&Line::Result(value)))
    } else if start.in_container {
        Err(Failure {
            origin: FailureOrigin::Job(None),
            causes: vec![
                "the step is not the first process of its container: `--init` and `--pid` cannot be \
                 among the arguments for containers, nor `init` in the engine's settings"
                    .to_owned(),
            ],
        })
    } else {
        match wait_for_inner(start.users_apart) {
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

fn is_first() -> bool {
    rustix::process::getpid().is_init()
}

/// Starts this program again as the first process of new namespaces.
fn wait_for_inner(users_apart: bool) -> Result<ExitCode, Failure> {
    // Before, because in a chroot its path is another one from inside the namespace.
    let program = std::env::current_exe().map_err(|e| Failure::of(&e))?;
    let mut mapper = Command::new(&program);
    mapper.args(["step", MAP_USERS]);
    die_with_parent(&mut mapper);
    let mapper = users_apart.then_some(mapper);
    namespace::separate(mapper).map_err(|e| Failure::of_namespace(&e, true))?;
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
    mut search_path: OsString,
) -> Result<serde_json::Value, Failure>
where
    J: DeserializeOwned,
    R: Serialize,
    E: JobError,
{
    let mut shares = remote::MountedShares::default();
    let mut text = Vec::new();
    let mut parent = BufReader::new(parent().map_err(|e| Failure::of(&e))?);
    parent
        .read_until(b'\n', &mut text)
        .map_err(|e| Failure::of(&e))?;
    let request: Request = serde_json::from_slice(&text).map_err(|e| Failure::of(&e))?;
    match &request.place {
        // In a namespace of its own that it could make, it is the host's policy that refuses a mount.
        Place::Host(view) => {
            namespace::enter(view).map_err(|e| Failure::of_namespace(&e, e.is_refusal()))?;
        }
        Place::Container { forgotten } => {
            forget(forgotten);
            end_with(parent);
            namespace::keep_owners();
        }
        Place::Remote(place) => {
            search_path = remote::search_path(&search_path);
            replace_environment(&place.environment, &search_path);
            remote::end_with(parent);
            shares = remote::enter(place)?;
        }
    }
    let job = match request.work {
        Work::Job(job) => serde_json::from_value(job).map_err(|e| Failure::of(&e))?,
        Work::Check => return Ok(serde_json::Value::Null),
        Work::ToolIdentity { tool, arguments } => {
            let identity = tool_identity::of_container(&search_path, &tool, &arguments);
            return identity.map(Into::into).map_err(|e| Failure::of(&e));
        }
        Work::EmulatorIdentity(processor) => {
            let identity = Emulation::of_machine(processor).identity();
            return identity.map(Into::into).map_err(|e| Failure::of(&e));
        }
    };
    let terminal = request.terminal.as_ref().map(Terminal::of_job).transpose();
    let workplace = Workplace {
        terminal: terminal.map_err(|e| Failure::of(&e))?,
        sink: &Parent,
        search_path,
        loop_mounts: request.loop_mounts.then(LoopMounts::granted),
    };
    let result = run(job, workplace).map_err(|e| Failure {
        origin: FailureOrigin::Job(e.kind().map(ToOwned::to_owned)),
        causes: chain(&e),
    })?;
    shares.sync()?;
    serde_json::to_value(result).map_err(|e| Failure::of(&e))
}

/// Has the environment that the job declares, and nothing of what a login has set.
#[allow(unsafe_code)]
fn replace_environment(environment: &BTreeMap<String, OsString>, search_path: &OsStr) {
    let names: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names {
        // SAFETY: this process has one thread yet, so that nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    let path = std::iter::once(("PATH", search_path));
    let declared = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_os_str()));
    for (name, value) in declared.chain(path) {
        // SAFETY: as above.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Forgets what is in the environment beside what the job declares: on the host it is not there, and
/// what a script makes of it would be no input of its step.
#[allow(unsafe_code)]
fn forget(names: &[String]) {
    for name in names {
        // SAFETY: this process has one thread yet, so that nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
}

/// Ends this process, and so all that it started, when the parent says no more: an engine closes the
/// standard input where the client that started the container has gone, whatever became of that.
#[allow(clippy::exit, reason = "this process has nothing to live for any more")]
fn end_with(mut parent: impl Read + Send + 'static) {
    std::thread::spawn(move || {
        let _ = io::copy(&mut parent, &mut io::sink());
        std::process::exit(1);
    });
}

fn chain(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |e| e.source())
        .map(ToString::to_string)
        .collect()
}
