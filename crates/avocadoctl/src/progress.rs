//! Events as lines of text, few enough to send and to read.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use avocado_events::{Event, Kind, Sink, Status, Unit};

use crate::failure::printable;

/// Begins the lines that stay on the screen.
const WARNING: &str = "warning: ";

/// Turns events into lines. Of the many that say how far a thing is, only those are let through
/// that bring it forward by a step.
#[derive(Debug)]
pub(crate) struct Lines {
    /// In percent.
    step: u64,
    /// With what tools print.
    verbose: bool,
    /// Stage and item, and how far it was when it was last told.
    told: Mutex<HashMap<(String, String), u64>>,
}

impl Lines {
    pub(crate) fn new(step: u64, verbose: bool) -> Self {
        Lines {
            step: step.max(1),
            verbose,
            told: Mutex::default(),
        }
    }

    /// The line for an event, or `None` when there is nothing to say.
    pub(crate) fn line(&self, event: &Event) -> Option<String> {
        match event.kind {
            Kind::Info => Some(event.message.clone()),
            Kind::Warning => Some(format!("{WARNING}{}", event.message)),
            Kind::Output => self
                .verbose
                .then(|| format!("{}: {}", event.stage, event.message)),
            Kind::Step => self.step(event),
        }
    }

    fn step(&self, event: &Event) -> Option<String> {
        let what = match event.item.is_empty() {
            true => event.stage.clone(),
            false => format!("{} {}", event.stage, event.item),
        };
        match event.status? {
            Status::Running => {
                if !self.moved(event) {
                    return None;
                }
                let message = match event.message.is_empty() {
                    true => String::new(),
                    false => format!(": {}", event.message),
                };
                Some(format!("{what}{}{message}", how_far(event)))
            }
            Status::Success | Status::Skipped if event.message.is_empty() => {
                Some(format!("{what}: done"))
            }
            Status::Success | Status::Skipped => Some(format!("{what}: {}", event.message)),
            // What failed is in the error that follows.
            Status::Failed | Status::Pending => None,
        }
    }

    /// Whether the thing is at least a step further than when it was last told.
    fn moved(&self, event: &Event) -> bool {
        const UNKNOWN_STEP: u64 = 16 << 20;
        let (Some(done), Unit::Bytes) = (event.done, event.unit) else {
            return true;
        };
        let step = match event.total {
            Some(total) if total > 0 => {
                (u128::from(done) * 100 / u128::from(total)) as u64 / self.step
            }
            Some(_) => 0,
            None => done / UNKNOWN_STEP,
        };
        let key = (event.stage.clone(), event.item.clone());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(key, step) != Some(step)
    }
}

fn how_far(event: &Event) -> String {
    match (event.done, event.total, event.unit) {
        (Some(done), Some(total), Unit::Bytes) if total > 0 => {
            let percent = u128::from(done) * 100 / u128::from(total);
            format!(": {percent}% of {}", size(total))
        }
        (Some(done), _, Unit::Bytes) => format!(": {}", size(done)),
        (Some(done), Some(total), Unit::Items) => format!(" ({done} of {total})"),
        _ => String::new(),
    }
}

/// A number of bytes for a person.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// Tells progress on stderr: on a terminal in one line that is written over and over, elsewhere
/// line by line.
#[derive(Debug)]
pub(crate) struct Talk {
    lines: Lines,
    live: bool,
    /// Whether the live line has something on it.
    shown: Mutex<bool>,
}

impl Talk {
    pub(crate) fn new(verbose: bool) -> Self {
        let live = std::io::stderr().is_terminal() && !verbose;
        Talk {
            // A line that moves may move often; lines that stay should be few.
            lines: Lines::new(if live { 1 } else { 10 }, verbose),
            live,
            shown: Mutex::new(false),
        }
    }

    /// Shows a line of progress.
    pub(crate) fn say(&self, line: &str) {
        let line = printable(line);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stderr = std::io::stderr().lock();
        // Nobody is harmed when progress cannot be told.
        let _ = match (self.live, line.starts_with(WARNING)) {
            (true, false) => {
                *shown = true;
                let width = width();
                let line: String = line.chars().take(width.saturating_sub(1)).collect();
                write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush())
            }
            (true, true) => {
                *shown = false;
                writeln!(stderr, "\r\x1b[K{line}")
            }
            (false, _) => writeln!(stderr, "{line}"),
        };
    }

    /// Takes the live line away.
    pub(crate) fn clear(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *shown) {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K").and_then(|()| stderr.flush());
        }
    }
}

impl Sink for Talk {
    fn emit(&self, event: Event) {
        if let Some(line) = self.lines.line(&event) {
            self.say(&line);
        }
    }
}

/// The columns of the terminal on stderr.
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.ok()
        .map(|s| usize::from(s.ws_col))
        .filter(|w| *w > 0)
        .unwrap_or(80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_events() {
        let lines = Lines::new(5, false);
        for (event, line) in [
            (Event::info("hello"), Some("hello")),
            (Event::warning("careful"), Some("warning: careful")),
            (Event::output("depmod", "noise"), None),
            (Event::step("add", Status::Running, ""), Some("add")),
            (
                Event::step("add", Status::Running, "metadata"),
                Some("add: metadata"),
            ),
            (Event::step("add", Status::Success, ""), Some("add: done")),
            (
                Event::step("add", Status::Skipped, "is there"),
                Some("add: is there"),
            ),
            (Event::step("add", Status::Failed, "why"), None),
            (Event::step("add", Status::Pending, ""), None),
            (
                Event::items("verify", "app", 1, Some(3)),
                Some("verify app (1 of 3)"),
            ),
            (Event::bytes("get", "a", 0, Some(0)), Some("get a: 0 B")),
            (
                Event::bytes("get", "b", 512, Some(1024)),
                Some("get b: 50% of 1.0 KiB"),
            ),
            (
                Event::bytes("get", "c", 1 << 30, None),
                Some("get c: 1.0 GiB"),
            ),
        ] {
            assert_eq!(lines.line(&event).as_deref(), line, "{event:?}");
        }
        let verbose = Lines::new(5, true);
        assert_eq!(
            verbose.line(&Event::output("a", "b")).as_deref(),
            Some("a: b")
        );
    }

    #[test]
    fn progress_is_told_in_steps() {
        let lines = Lines::new(5, false);
        let total = 1_000_000;
        let told = (0..=total).filter(|done| {
            lines
                .line(&Event::bytes("get", "a", *done, Some(total)))
                .is_some()
        });
        assert_eq!(told.count(), 21);
        assert!(
            lines
                .line(&Event::bytes("get", "b", 0, Some(total)))
                .is_some(),
            "another item"
        );
        assert!(
            lines
                .line(&Event::bytes("get", "c", u64::MAX, Some(u64::MAX)))
                .is_some()
        );
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (5 << 20, "5.0 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
