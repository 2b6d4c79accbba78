//! Where a VM lives, and its end.
//!
//! A place is a directory with a locked file in it. Every process of the VM has the directory's
//! name in its arguments or its environment, so each process that knows the name can find and end
//! all of them: the owner, or, when the lock shows that the owner is dead, the next one that comes.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::HarnessError;
use crate::cleanup::{self, CleanupGuard};
use crate::error::file;
use crate::host;

const PREFIX: &str = "avovm.";
const OWNER: &str = "owner";

/// How long killed processes may take to end.
const END: Duration = Duration::from_secs(20);

/// How long a process may be without arguments before it counts as one that wants none.
const EXEC: Duration = Duration::from_secs(1);

/// A directory, until it is dropped. Everything that belongs to it ends with it.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    // In this order: everything is gone while the lock still says that it is ours.
    _guard: CleanupGuard,
    _lock: File,
}

impl Place {
    pub(super) fn take() -> Result<Self, HarnessError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        cleanup::install().map_err(file("watch for signals in", "/proc/self"))?;
        reap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // With a dot at the end, so that no other name begins with it.
        let name = format!("{PREFIX}{}-{number}.", std::process::id());
        let root = std::env::temp_dir().join(name);
        let guard = CleanupGuard::new({
            let root = root.clone();
            move || end(&root)
        })?;
        fs::create_dir(&root).map_err(file("make", &root))?;
        let owner = root.join(OWNER);
        let lock = File::create(&owner).map_err(file("make", &owner))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(file("lock", &owner))?;
        let place = Place {
            root,
            _guard: guard,
            _lock: lock,
        };
        fs::create_dir(place.home()).map_err(file("make", place.home()))?;
        Ok(place)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn state(&self) -> PathBuf {
        self.root.join("vm")
    }

    pub(super) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    pub(super) fn processes(&self) -> Vec<Process> {
        processes(&self.root)
    }
}

/// A process of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// Its arguments, the program first.
    pub arguments: Vec<String>,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}: {}", self.id, self.arguments.join(" "))
    }
}

/// Ends places whose owners are dead.
fn reap() {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten();
    for entry in entries.flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // Without the file it is just being made, or removed.
        let Ok(lock) = File::open(path.join(OWNER)) else {
            continue;
        };
        if ours && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            end(&path);
        }
    }
}

fn end(root: &Path) {
    let deadline = Instant::now() + END;
    loop {
        let processes = processes(root);
        if processes.is_empty() || Instant::now() > deadline {
            break;
        }
        for process in processes {
            let pid = i32::try_from(process.id).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for mount in host::mounts_below(root).iter().rev() {
        let _ = unmount(mount, UnmountFlags::DETACH);
    }
    let _ = fs::remove_dir_all(root);
}

/// Living processes that were given a path below `root`. This one is not among them.
fn processes(root: &Path) -> Vec<Process> {
    use std::os::unix::ffi::OsStrExt;
    let root = root.as_os_str().as_bytes();
    let mentions = |bytes: &[u8]| bytes.windows(root.len()).any(|part| part == root);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| *id != std::process::id())
        .filter_map(|id| {
            let line = command_line(id)?;
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            (mentions(&line) || mentions(&environment)).then(|| Process {
                id,
                arguments: String::from_utf8_lossy(&line)
                    .trim_end_matches('\0')
                    .split('\0')
                    .map(ToOwned::to_owned)
                    .collect(),
            })
        })
        .collect()
}

/// The arguments of a living process, each with a NUL behind it.
fn command_line(id: u32) -> Option<Vec<u8>> {
    let deadline = Instant::now() + EXEC;
    loop {
        let line = fs::read(format!("/proc/{id}/cmdline")).ok()?;
        // A process in the midst of execve has no arguments for a moment: its parent has gone on
        // already, so it must not be missed.
        if !line.is_empty() || !may_get_arguments(id) || Instant::now() > deadline {
            return (!line.is_empty()).then_some(line);
        }
        std::thread::yield_now();
    }
}

/// Neither a thread of the kernel nor a process that has ended and was not waited for.
fn may_get_arguments(id: u32) -> bool {
    const KERNEL_THREAD: u32 = 0x0020_0000;
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // State, parent, group, session, terminal, its group, flags: behind the name, which may hold
    // anything (proc_pid_stat(5)).
    let Some((_, fields)) = stat.rsplit_once(") ") else {
        return false;
    };
    let fields: Vec<&str> = fields.split(' ').collect();
    let flags = fields.get(6).and_then(|flags| flags.parse::<u32>().ok());
    !matches!(fields.first(), Some(&("Z" | "X")))
        && flags.is_some_and(|flags| flags & KERNEL_THREAD == 0)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn everything_ends_with_its_place() {
        let place = Place::take().unwrap();
        let root = place.root().to_owned();
        let start = |command: &mut Command| command.stdin(Stdio::null()).spawn().unwrap();
        let mut named = start(
            Command::new("tail")
                .arg("-F")
                .arg(root.join("x"))
                .stderr(Stdio::null()),
        );
        let mut told = start(Command::new("sleep").arg("1000").env("X", root.join("x")));
        let mut other = start(Command::new("sleep").arg("1000"));
        let mut ids: Vec<u32> = place.processes().iter().map(|p| p.id).collect();
        ids.sort_unstable();
        let mut expected = [named.id(), told.id()];
        expected.sort_unstable();
        assert_eq!(ids, expected);
        drop(place);
        assert!(!root.exists());
        assert!(!named.wait().unwrap().success());
        assert!(!told.wait().unwrap().success());
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
