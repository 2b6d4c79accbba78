//! The process: started as a child or adopted, watched until its end, and always reaped.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod none;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod unix;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
use none as system;

/// Which process it is. Process ids are used again; together with the start time they are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// When it started, as the system tells it; only good for comparing.
    pub started: String,
}

impl Identity {
    /// Of a process that is there and has not ended.
    pub fn of(pid: u32) -> Option<Identity> {
        let started = system::started(pid)?;
        Some(Identity { pid, started })
    }

    /// Whether it was started with this path as an argument.
    pub fn names(&self, path: &Path) -> bool {
        let path = path.as_os_str().as_encoded_bytes();
        let line = system::command_line(self.pid).unwrap_or_default();
        line.windows(path.len()).any(|part| part == path)
    }

    /// Whether that process is still there. One that ended and waits to be reaped is not.
    pub fn is_alive(&self) -> bool {
        Identity::of(self.pid).is_some_and(|found| found == *self)
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// Nobody could tell: it was not our child.
    Unknown,
}

impl ExitStatus {
    /// Whether it ended by itself and was content.
    pub fn is_success(self) -> bool {
        self == ExitStatus::Code(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "exit code {code}"),
            ExitStatus::Signal(signal) => write!(f, "signal {signal}"),
            ExitStatus::Unknown => f.write_str("exit code unknown"),
        }
    }
}

/// What a process used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time since its start, in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
}

impl Usage {
    /// Of a process that is there.
    pub(crate) fn of(pid: u32) -> Option<Usage> {
        system::usage(pid)
    }
}

/// A process; a cloneable handle. Dropping it ends nothing: a task watches the process until it
/// ends, and reaps it where it is a child.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) identity: Identity,
    kill: mpsc::UnboundedSender<()>,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Waits for its end.
    pub(crate) async fn exited(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or(ExitStatus::Unknown),
            // The watching task is gone, with its runtime; so is whoever asks.
            Err(_) => ExitStatus::Unknown,
        }
    }

    /// How it ended, if it did.
    pub(crate) fn exit(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Kills it. The signal goes through the task that watches it, so that it never reaches
    /// another process that got the same id.
    pub(crate) fn kill(&self) {
        let _ = self.kill.send(());
    }
}

/// How much of a log goes into an error.
const TAIL: u64 = 4096;

/// The last lines of a log, without surrounding white space; empty where there are none.
pub(crate) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        let start = length.saturating_sub(TAIL);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let whole = match text.split_once('\n') {
            Some((_cut, rest)) if start > 0 => rest,
            _ => &text,
        };
        Ok(whole.trim().to_owned())
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_has_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert_eq!(tail(&log), "");
        std::fs::write(&log, "\none\ntwo\n\n").unwrap();
        assert_eq!(tail(&log), "one\ntwo");
        let long: String = (0..2000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&log, &long).unwrap();
        let end = tail(&log);
        assert!(end.ends_with("line 1999"), "{end}");
        assert!(end.starts_with("line "), "{end}");
        assert!(end.len() <= 4096);
    }

    #[test]
    fn we_are_alive_and_nobody_else() {
        let Some(me) = Identity::of(std::process::id()) else {
            panic!("this process has no identity");
        };
        assert!(me.is_alive());
        let earlier = Identity {
            started: "earlier".to_owned(),
            ..me
        };
        assert!(!earlier.is_alive());
    }

    #[test]
    fn one_that_ended_is_not_alive_before_it_is_reaped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while Identity::of(child.id()).is_some() {
            assert!(std::time::Instant::now() < deadline, "still alive");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
