//! What Linux tells about processes.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::oneshot;

use super::usage::ProcessUsage;

/// Fields of `/proc/<pid>/stat` after the program's name, which may itself have spaces and
/// parentheses. The first is the state, field 3 in the manual.
struct ProcStat(String);

impl ProcStat {
    fn read(pid: u32) -> Option<ProcStat> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_name, fields) = line.rsplit_once(')')?;
        Some(ProcStat(fields.to_owned()))
    }

    /// The field with the manual's number.
    fn field(&self, number: usize) -> Option<&str> {
        self.0.split_ascii_whitespace().nth(number.checked_sub(3)?)
    }

    fn number(&self, number: usize) -> Option<u64> {
        self.field(number)?.parse().ok()
    }
}

/// When a process started: ticks since the host's boot, and which boot that was.
pub(super) fn start_time(pid: u32) -> Option<String> {
    let stat = ProcStat::read(pid)?;
    if matches!(stat.field(3)?, "Z" | "X") {
        return None;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{}@{}", stat.field(22)?, boot.trim()))
}

/// With what it was started.
pub(super) fn command_line(pid: u32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/cmdline")).ok()
}

pub(crate) fn usage(pid: u32) -> Option<ProcessUsage> {
    let stat = ProcStat::read(pid)?;
    let ticks = stat.number(14)?.checked_add(stat.number(15)?)?;
    let pages = stat.number(24)?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(ProcessUsage {
        cpu_ms: ticks.saturating_mul(1000) / per_second,
        memory_bytes: pages.saturating_mul(rustix::param::page_size() as u64),
    })
}

/// A process that is not a child, held so that its id cannot become another's.
pub(super) struct ProcessHandle {
    fd: Arc<OwnedFd>,
    end: oneshot::Receiver<()>,
}

impl ProcessHandle {
    /// None where the process is gone, or is another one than that which `started` then.
    pub(super) fn open(pid: u32, started: &str) -> Option<ProcessHandle> {
        let id = Pid::from_raw(pid.try_into().ok()?)?;
        let fd = Arc::new(pidfd_open(id, PidfdFlags::empty()).ok()?);
        // Asked after it is held: from here on the id means this process.
        if start_time(pid).as_deref() != Some(started) {
            return None;
        }
        let (ended, end) = oneshot::channel();
        let watched = fd.clone();
        // A thread of its own, because a runtime waits for its blocking tasks when it ends.
        std::thread::Builder::new()
            .name("qemu".to_owned())
            .spawn(move || {
                // A pidfd is readable from the end of its process on.
                let mut fds = [PollFd::new(&*watched, PollFlags::IN)];
                while matches!(poll(&mut fds, None), Err(Errno::INTR)) {}
                let _ = ended.send(());
            })
            .ok()?;
        Some(ProcessHandle { fd, end })
    }

    /// Waits for its end; to be asked only until it was told.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.end).await;
    }

    pub(super) fn kill(&self) {
        let _ = pidfd_send_signal(&self.fd, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_as_in_the_manual() {
        let stat = ProcStat(" S 1 2 3".to_owned());
        assert_eq!(stat.field(3), Some("S"));
        assert_eq!(stat.number(6), Some(3));
        assert_eq!(stat.number(7), None);
        assert_eq!(stat.field(0), None);
    }

    #[test]
    fn our_own_usage_is_plausible() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.memory_bytes > 100_000, "{usage:?}");
    }
}
