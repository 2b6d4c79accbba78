//! Programs: finding them, running them, and saying well what went wrong.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::HarnessError;
use crate::cleanup::CleanupGuard;
use crate::error::file;

/// How long a program may take unless [`ToolCall::limit`] says otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// One run of a program: its argument vector, and what goes with it. Its process group ends with
/// it.
#[derive(Debug)]
pub struct ToolCall {
    command: Command,
    input: Vec<u8>,
    limit: Duration,
    guarded: bool,
    shown: bool,
}

impl ToolCall {
    /// A run of `program`, found on `PATH` or in `/usr/sbin`, with no input and a minute of time.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let path = find(program).unwrap_or_else(|| program.into());
        ToolCall {
            command: Command::new(path),
            input: Vec::new(),
            limit: LIMIT,
            guarded: true,
            shown: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Forgets the environment of this process, and what was set before.
    #[must_use]
    pub fn clear_env(mut self) -> Self {
        self.command.env_clear();
        self
    }

    /// Runs it in `directory`.
    #[must_use]
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Gives it `input` on stdin.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Kills it after `limit`.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Lets its stdout go to that of this process instead of catching it: a person waits for it.
    #[must_use]
    pub fn show(mut self) -> Self {
        self.shown = true;
        self
    }

    /// Lets it run also while this process ends: it is part of the cleaning up.
    #[must_use]
    pub fn last(mut self) -> Self {
        self.guarded = false;
        self
    }

    fn text(&self) -> String {
        std::iter::once(self.command.get_program())
            .chain(self.command.get_args())
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Runs it, however it ends.
    ///
    /// # Errors
    /// It could not be started, or took too long.
    pub fn run(mut self) -> Result<ToolOutput, HarnessError> {
        let started = Instant::now();
        let text = self.text();
        let start = |source| HarnessError::Start {
            command: text.clone(),
            source,
        };
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(if self.shown {
                Stdio::inherit()
            } else {
                Stdio::piped()
            })
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(start)?;
        let group = Pid::from_child(&child);
        let kill = move || {
            let _ = kill_process_group(group, Signal::KILL);
        };
        let guard = if self.guarded {
            match CleanupGuard::new(kill) {
                Ok(guard) => Some(guard),
                Err(error) => {
                    let _ = child.wait();
                    return Err(error);
                }
            }
        } else {
            None
        };
        let (input, limit) = (self.input, self.limit);
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // A program that does not read its input says so by its result.
                stdin.map(|mut pipe| pipe.write_all(&input))
            });
            let stdout = scope.spawn(move || read(stdout));
            let stderr = scope.spawn(move || read(stderr));
            let ended = ends_within(&child, limit);
            // Until it is waited for, its number cannot belong to another process. Whatever it left
            // behind would keep the pipes open.
            drop(guard);
            kill();
            let status = child.wait().map_err(start)?;
            if !ended {
                return Err(HarnessError::Endless {
                    command: text.clone(),
                    limit,
                });
            }
            Ok(ToolOutput {
                status,
                stdout: stdout.join().unwrap_or_default(),
                stderr: stderr.join().unwrap_or_default(),
                elapsed: started.elapsed(),
            })
        })
    }

    /// Runs it, and takes every end but a good one for an error.
    ///
    /// # Errors
    /// It could not be started, took too long, or failed.
    pub fn ok(self) -> Result<ToolOutput, HarnessError> {
        let command = self.text();
        let output = self.run()?;
        if output.status.success() {
            Ok(output)
        } else {
            Err(HarnessError::Failed {
                command,
                output: Box::new(output),
            })
        }
    }
}

fn read(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What arrived before a failure is the best there is.
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for the end of `child`; says whether it came within `limit`.
pub(crate) fn ends_within(child: &Child, limit: Duration) -> bool {
    let Ok(process) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else {
        // Not even there any more.
        return true;
    };
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return false,
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}

/// How a program ended and what it said.
#[derive(Debug, Clone)]
pub struct ToolOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its stdout.
    pub stdout: String,
    /// All of its stderr.
    pub stderr: String,
    /// How long it took.
    pub elapsed: Duration,
}

impl fmt::Display for ToolOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.trim().is_empty() {
                write!(f, "\n--- {name}\n{}", text.trim_end())?;
            }
        }
        Ok(())
    }
}

/// Where `program` is, on `PATH` or among the system's programs.
pub fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = Path::new(program.as_ref());
    if program.components().count() > 1 {
        return program.exists().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// Makes a directory with the programs of this machine, but for some.
///
/// # Errors
/// It cannot be made.
pub fn programs_without(place: &Path, left_out: &[&str]) -> Result<(), HarnessError> {
    std::fs::create_dir_all(place).map_err(file("make", place))?;
    for directory in ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(Path::new) {
        let entries = std::fs::read_dir(directory).map_err(file("read", directory))?;
        for entry in entries.flatten() {
            let to = place.join(entry.file_name());
            let is_left_out = left_out.iter().any(|name| entry.file_name() == *name);
            if !is_left_out && to.symlink_metadata().is_err() {
                std::os::unix::fs::symlink(entry.path(), &to).map_err(file("make", &to))?;
            }
        }
    }
    Ok(())
}

/// The root of the work tree that this harness was built from.
pub fn source_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where things are kept that cost much to make: `AVOCADO_CACHE_DIR`, or `avocado` in the user's
/// cache directory.
pub fn cache_dir() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    if let Some(path) = variable("AVOCADO_CACHE_DIR") {
        return path.into();
    }
    let user = variable("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(variable("HOME").unwrap_or_else(|| "/root".into())).join(".cache"),
        PathBuf::from,
    );
    user.join("avocado")
}

/// The built program `name` (`avocado`, `avocado-serve`, …): in `AVOCADO_BIN_DIR` when that is
/// set, else where cargo put it together with the program that runs now.
///
/// # Errors
/// It is not there.
pub fn binary(name: &str) -> Result<PathBuf, HarnessError> {
    let missing = |hint: String| HarnessError::NotBuilt {
        name: name.to_owned(),
        hint,
    };
    if let Some(directory) = std::env::var_os("AVOCADO_BIN_DIR") {
        let path = Path::new(&directory).join(name);
        let absent = || missing(format!("{} is not there", path.display()));
        return path.is_file().then(|| path.clone()).ok_or_else(absent);
    }
    let profile = profile_dir().ok_or_else(|| missing("cargo's directory is unknown".into()))?;
    let path = profile.join(name);
    let absent = || missing(format!("cargo build -p {name}"));
    path.is_file().then(|| path.clone()).ok_or_else(absent)
}

/// The static build of the program `name` for this machine, and for devices like it: in
/// `AVOCADO_STATIC_BIN_DIR` when that is set, else the newest one of cargo's profiles for the musl
/// target.
///
/// # Errors
/// It is not there.
pub fn static_binary(name: &str) -> Result<PathBuf, HarnessError> {
    let stated = std::env::var_os("AVOCADO_STATIC_BIN_DIR").map(PathBuf::from);
    static_binary_of(OWN_TARGET, stated, name)
}

/// The same for devices of another architecture, as cargo made it.
///
/// # Errors
/// It is not there.
pub fn static_binary_for(architecture: &str, name: &str) -> Result<PathBuf, HarnessError> {
    static_binary_of(&format!("{architecture}-unknown-linux-musl"), None, name)
}

const OWN_TARGET: &str = "x86_64-unknown-linux-musl";

fn static_binary_of(
    target: &str,
    stated: Option<PathBuf>,
    name: &str,
) -> Result<PathBuf, HarnessError> {
    let found = match stated {
        Some(directory) => vec![directory.join(name)],
        None => profile_dir()
            .and_then(|profile| {
                let directory = profile.parent()?;
                // The program that asks may be a static build itself.
                let same = directory.file_name() == Some(OsStr::new(OWN_TARGET));
                let all = if same { directory.parent()? } else { directory };
                Some(all.join(target))
            })
            .and_then(|target| std::fs::read_dir(target).ok())
            .into_iter()
            .flatten()
            .flatten()
            .map(|profile| profile.path().join(name))
            .collect(),
    };
    let built = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).ok();
    found
        .into_iter()
        .filter(|path| path.is_file())
        .max_by_key(built)
        .ok_or_else(|| HarnessError::NotBuilt {
            name: name.to_owned(),
            hint: format!("cargo build -p {name} --target {target}"),
        })
}

/// `target/debug` or the like: this program is in it, or in `deps` or `examples` below.
fn profile_dir() -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    let directory = here.parent()?;
    match directory.file_name()?.to_str() {
        Some("deps" | "examples") => directory.parent().map(Path::to_owned),
        _ => Some(directory.to_owned()),
    }
}

/// What a test needs from the machine that it runs on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TestNeed {
    /// To be root.
    Root,
    /// A program on the path.
    Tool(&'static str),
    /// A built program of this project.
    Binary(&'static str),
    /// A built static program of this project.
    StaticBinary(&'static str),
    /// The same for devices of this architecture.
    StaticBinaryFor(&'static str, &'static str),
    /// A file.
    File(PathBuf),
    /// That programs for AArch64 run in steps: this machine emulates them, or its kernel lets a step do so.
    Emulation,
}

/// Whether this machine's kernel emulates programs for AArch64 for everybody, in containers too (`F`), as
/// Debian's `qemu-user-static` sets it up.
#[must_use]
pub fn machine_emulates_aarch64() -> bool {
    let rule = std::fs::read_to_string("/proc/sys/fs/binfmt_misc/qemu-aarch64").unwrap_or_default();
    let has_flag = |line: &str| {
        let flags = line.strip_prefix("flags: ");
        flags.is_some_and(|flags| flags.contains('F'))
    };
    rule.starts_with("enabled") && rule.lines().any(has_flag)
}

/// Whether a user namespace can have emulators of its own: since Linux 6.7.
fn namespaces_emulate() -> bool {
    let place = "/proc/sys/fs/binfmt_misc";
    let apart = ["--user", "--map-root-user", "--mount"];
    let mount = ["mount", "-t", "binfmt_misc", "binfmt_misc", place];
    let tried = ToolCall::new("unshare").args(apart).args(mount).run();
    tried.is_ok_and(|tried| tried.status.success())
}

impl TestNeed {
    fn missing(&self) -> Option<String> {
        match self {
            TestNeed::Root => (!rustix::process::geteuid().is_root()).then(|| "needs root".into()),
            TestNeed::Tool(name) => find(name)
                .is_none()
                .then(|| format!("{name} is not installed (scripts/setup does it)")),
            TestNeed::Binary(name) => binary(name).err().map(|error| error.to_string()),
            TestNeed::StaticBinary(name) => {
                static_binary(name).err().map(|error| error.to_string())
            }
            TestNeed::StaticBinaryFor(architecture, name) => static_binary_for(architecture, name)
                .err()
                .map(|error| error.to_string()),
            TestNeed::File(path) => (!path.exists()).then(|| format!("no {}", path.display())),
            TestNeed::Emulation => {
                (!machine_emulates_aarch64() && !namespaces_emulate()).then(|| {
                    "neither this machine nor a user namespace emulates AArch64 (scripts/setup has \
                 systemd do it, where that runs)"
                        .to_owned()
                })
            }
        }
    }
}

/// Whether the test `name` cannot run here; then it is skipped.
#[must_use]
pub fn skip_without(name: &str, needs: &[TestNeed]) -> bool {
    let Some(why) = needs.iter().find_map(TestNeed::missing) else {
        return false;
    };
    avocado_test_support::skip(name, why);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_everything() {
        let call = ToolCall::new("ls").args(["/nonexistent-1", "/proc/self/status"]);
        let text = call.ok().unwrap_err().to_string();
        for part in [
            "ls /nonexistent-1 /proc/self/status",
            "exit status: 2",
            "--- stdout\n/proc/self/status",
            "--- stderr\n",
            "/nonexistent-1",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(matches!(
            ToolCall::new("no-such-program").run(),
            Err(HarnessError::Start { .. })
        ));
    }

    #[test]
    fn input_and_output_larger_than_a_pipe() {
        let input = "x".repeat(1 << 20);
        let output = ToolCall::new("cat").input(input.clone()).ok().unwrap();
        assert!(output.stdout == input);
    }

    #[test]
    fn what_takes_too_long_is_killed() {
        let call = ToolCall::new("sleep").arg("1000");
        let error = call.limit(Duration::from_millis(10)).run().unwrap_err();
        assert!(matches!(error, HarnessError::Endless { .. }), "{error}");
    }

    #[test]
    fn needs() {
        assert!(TestNeed::Tool("ls").missing().is_none());
        assert!(TestNeed::Tool("no-such-tool").missing().is_some());
        assert!(TestNeed::Binary("no-such-program").missing().is_some());
        assert!(TestNeed::File("/proc/self/exe".into()).missing().is_none());
    }
}
