//! What a start waits for, where the guest is slow to boot: under emulation it takes minutes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use avocado_events::{Event, Sink, StepStatus};
use avocado_vm::dir::{StateDir, StateFile};
use avocado_vm::launch::VmLaunch;
use avocado_vm::status::VmStatus;

use super::{logs, machine};
use crate::failure::Result;
use crate::session::Session;

/// How long a guest may take before anything is said of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether the start has ended.
const LOOK: Duration = Duration::from_millis(200);
/// The name of the step.
const STAGE: &str = "the guest boots";

/// Starts the VM, and tells what it waits for if that takes long.
pub(super) fn start(session: &Session, dir: &StateDir, launch: &VmLaunch) -> Result<VmStatus> {
    let console = dir.file(StateFile::SerialLog);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let output = &*session.output;
        scope.spawn(|| tell(&console, &done, output.is_live(), output));
        let started = machine::start(session, dir, launch);
        done.store(true, Ordering::SeqCst);
        started
    })
}

/// Tells what the guest said last on its console, until `done`: at a terminal on one line that
/// changes (`live`), elsewhere once that it is waited for.
fn tell(console: &Path, done: &AtomicBool, live: bool, sink: &dyn Sink) {
    let last = Mutex::new(String::new());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            logs::watch(console, done, &|line| {
                let line = line.trim();
                if !line.is_empty() {
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = line.to_owned();
                }
            });
        });
        let mut progress = BootProgress::new(live);
        while !done.load(Ordering::SeqCst) {
            let line = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            progress.at(begun.elapsed(), &line, sink);
            std::thread::sleep(LOOK);
        }
        progress.end(sink);
    });
}

/// What was told so far.
struct BootProgress {
    live: bool,
    told: Option<String>,
}

impl BootProgress {
    fn new(live: bool) -> Self {
        BootProgress { live, told: None }
    }

    fn at(&mut self, passed: Duration, line: &str, sink: &dyn Sink) {
        if passed < PATIENCE || self.told.as_deref() == Some(line) {
            return;
        }
        if self.live {
            sink.emit(Event::step(STAGE, StepStatus::Running, line));
        } else if self.told.is_none() {
            let text = "the guest boots; it is waited for until its ssh answers";
            sink.emit(Event::info(text));
        }
        self.told = Some(line.to_owned());
    }

    /// Takes the line away that changed.
    fn end(&self, sink: &dyn Sink) {
        if self.live && self.told.is_some() {
            sink.emit(Event::step(STAGE, StepStatus::Skipped, ""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Sink for Heard {
        fn emit(&self, event: Event) {
            let status = event.status.map(|status| format!("{status:?} "));
            let text = status.unwrap_or_default() + &event.message;
            self.0.lock().unwrap().push(text);
        }
    }

    fn told(live: bool) -> Vec<String> {
        let heard = Heard::default();
        let mut progress = BootProgress::new(live);
        for (secs, line) in [(0, "a"), (4, "b"), (5, "b"), (6, "b"), (7, "c")] {
            progress.at(Duration::from_secs(secs), line, &heard);
        }
        progress.end(&heard);
        heard.0.into_inner().unwrap()
    }

    #[test]
    fn a_slow_boot_is_told_and_nothing_twice_where_lines_stay() {
        assert_eq!(told(true), ["Running b", "Running c", "Skipped "]);
        let once = told(false);
        assert_eq!(once.len(), 1, "{once:?}");
        let heard = Heard::default();
        let mut quick = BootProgress::new(true);
        quick.at(Duration::from_secs(1), "a", &heard);
        quick.end(&heard);
        assert!(heard.0.into_inner().unwrap().is_empty());
    }
}
