//! What macOS tells about processes, in the words of `ps`.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::usage::ProcessUsage;

fn ps(format: &str, pid: u32) -> Option<String> {
    let output = Command::new("/bin/ps")
        .args(["-o", format, "-p", &pid.to_string()])
        // The same process must always give the same words.
        .env("LC_ALL", "C")
        .env("TZ", "UTC0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// When a process started, to the second.
pub(super) fn start_time(pid: u32) -> Option<String> {
    if ps("stat=", pid)?.starts_with('Z') {
        return None;
    }
    ps("lstart=", pid)
}

/// With what it was started.
pub(super) fn command_line(pid: u32) -> Option<Vec<u8>> {
    ps("command=", pid).map(String::into_bytes)
}

pub(crate) fn usage(pid: u32) -> Option<ProcessUsage> {
    let time = ps("time=", pid)?;
    let kibibytes: u64 = ps("rss=", pid)?.parse().ok()?;
    // Minutes without bound, seconds, hundredths: 61:05.30
    let (minutes, seconds) = time.split_once(':')?;
    let minutes: f64 = minutes.parse().ok()?;
    let seconds: f64 = seconds.parse().ok()?;
    Some(ProcessUsage {
        cpu_ms: ((minutes * 60.0 + seconds) * 1000.0) as u64,
        memory_bytes: kibibytes.saturating_mul(1024),
    })
}

/// A process that is not a child. It cannot be held here, so its identity is compared each time.
pub(super) struct ProcessHandle {
    pid: u32,
    started: String,
}

impl ProcessHandle {
    /// None where the process is gone, or is another one than that which `started` then.
    pub(super) fn open(pid: u32, started: &str) -> Option<ProcessHandle> {
        let handle = ProcessHandle {
            pid,
            started: started.to_owned(),
        };
        handle.is_alive().then_some(handle)
    }

    fn is_alive(&self) -> bool {
        start_time(self.pid).as_deref() == Some(&self.started)
    }

    pub(super) async fn ended(&mut self) {
        while self.is_alive() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    pub(super) fn kill(&self) {
        if !self.is_alive() {
            return;
        }
        if let Some(pid) = self.pid.try_into().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
