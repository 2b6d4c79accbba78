//! Which process it is, also for a later program of ours.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::system;

/// Which process it is. Process ids are used again; together with the start time they are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: u32,
    /// When it started, as the system tells it; only good for comparing.
    pub started: String,
}

impl ProcessIdentity {
    /// Of a process that is there and has not ended.
    pub fn of(pid: u32) -> Option<ProcessIdentity> {
        let started = system::start_time(pid)?;
        Some(ProcessIdentity { pid, started })
    }

    /// Whether it was started with this path as an argument.
    pub fn names(&self, path: &Path) -> bool {
        let path = path.as_os_str().as_encoded_bytes();
        let line = system::command_line(self.pid).unwrap_or_default();
        line.windows(path.len()).any(|part| part == path)
    }

    /// Whether that process is still there. One that ended and waits to be reaped is not.
    pub fn is_alive(&self) -> bool {
        ProcessIdentity::of(self.pid).is_some_and(|found| found == *self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_alive_and_nobody_else() {
        let Some(me) = ProcessIdentity::of(std::process::id()) else {
            panic!("this process has no identity");
        };
        assert!(me.is_alive());
        let earlier = ProcessIdentity {
            started: "earlier".to_owned(),
            ..me
        };
        assert!(!earlier.is_alive());
    }

    #[test]
    fn one_that_ended_is_not_alive_before_it_is_reaped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while ProcessIdentity::of(child.id()).is_some() {
            assert!(std::time::Instant::now() < deadline, "still alive");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
