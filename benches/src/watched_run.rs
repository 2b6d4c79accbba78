//! A run of a program, and what it cost.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use avocado_testbed::kernel::{self, ProcessIo};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::failure::Failure;

/// What a run cost.
pub(crate) struct WatchedRun {
    pub(crate) time: Duration,
    pub(crate) io: ProcessIo,
    /// The most memory that it had at once, in bytes, as far as it was seen.
    pub(crate) peak: u64,
    pub(crate) cpu: Duration,
}

impl WatchedRun {
    /// Runs a program to its end, which has to be a good one. What it says goes to `said`.
    pub(crate) fn of(mut command: Command, said: &Path) -> Result<Self, Failure> {
        let talk = File::create(said).map_err(Failure::system("make a file"))?;
        let start = Instant::now();
        let mut child = command
            .stdout(Stdio::null())
            .stderr(talk)
            .spawn()
            .map_err(Failure::system("start a program"))?;
        let process = child.id();
        // Its memory is gone when it ends, so it is looked at while it runs; a peak only grows.
        let (peak, io) = std::thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let mut peak = 0;
                while let Ok(memory) = kernel::memory(process) {
                    peak = memory.peak.max(peak);
                    std::thread::sleep(Duration::from_millis(20));
                }
                peak
            });
            // It has ended, but is not forgotten yet: what it moved is known for good.
            let ended = waitid(
                WaitId::Pid(Pid::from_child(&child)),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            );
            let time = start.elapsed();
            let io = kernel::io(process);
            (watch.join().unwrap_or_default(), ended.map(|_| (time, io)))
        });
        let (time, io) = io.map_err(Failure::system("wait for a program"))?;
        let io = io?;
        let cpu = kernel::work(process)
            .map(|work| work.cpu)
            .unwrap_or_default();
        let status = child.wait();
        let status = status.map_err(Failure::system("wait for a program"))?;
        if !status.success() {
            let said = fs::read_to_string(said).unwrap_or_default();
            return Err(Failure::Wrong(format!("{status}: {said}")));
        }
        Ok(WatchedRun {
            time,
            io,
            peak,
            cpu,
        })
    }
}
