//! Events as lines of text, few enough to send and to read.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
        // Who wants to know every percent also wants to see that a long download moves.
        const SMALL_STEP: u64 = 4 << 20;
        let (Some(done), Unit::Bytes) = (event.done, event.unit) else {
            return true;
        };
        let percent = u128::from(event.total.unwrap_or_default()) * u128::from(self.step) / 100;
        let step = match u64::try_from(percent).unwrap_or(u64::MAX) {
            0 if event.total.is_none() => done / UNKNOWN_STEP,
            step if self.step == 1 => done / step.clamp(1, SMALL_STEP),
            step => done / step.max(1),
        };
        let key = (event.stage.clone(), event.item.clone());
        let mut told = lock(&self.told);
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

/// How fast a piece of work moves.
#[derive(Debug)]
struct Pace {
    stage: String,
    item: String,
    /// How much was done when it was first heard of.
    from: u64,
    since: Instant,
}

impl Pace {
    fn begin(event: &Event) -> Self {
        Pace {
            stage: event.stage.clone(),
            item: event.item.clone(),
            from: event.done.unwrap_or_default(),
            since: Instant::now(),
        }
    }

    fn is_of(&self, event: &Event) -> bool {
        self.stage == event.stage
            && self.item == event.item
            && event.done.is_some_and(|done| done >= self.from)
    }
}

/// How far `event` is, how fast it moves and how long it will take, after it has brought `moved`
/// bytes in `elapsed`. What it is comes last, because a narrow terminal cuts it off.
fn live_line(event: &Event, moved: u64, elapsed: Duration) -> Option<String> {
    let (Some(done), Unit::Bytes) = (event.done, event.unit) else {
        return None;
    };
    let mut line = match event.total {
        Some(total) => format!("{} of {}", size(done), size(total)),
        None => size(done),
    };
    // The first moment says nothing about the pace.
    let seconds = elapsed.as_secs_f64();
    if seconds >= 0.5 && moved > 0 {
        let rate = moved as f64 / seconds;
        line.push_str(&format!(", {}/s", size(rate as u64)));
        let left = event
            .total
            .map(|total| total.saturating_sub(done) as f64 / rate);
        if let Some(left) = left.filter(|left| *left < 360_000.0) {
            line.push_str(&format!(", {} left", duration(left.ceil() as u64)));
        }
    }
    let item = if event.item.is_empty() { "" } else { " " };
    Some(format!("{line}: {}{item}{}", event.stage, event.item))
}

/// Minutes and seconds, with hours where there are any.
fn duration(seconds: u64) -> String {
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes}:{seconds:02}"),
        (hours, minutes) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// Tells progress on stderr: on a terminal in one line that is written over and over, elsewhere
/// line by line.
#[derive(Debug)]
pub(crate) struct Talk {
    lines: Lines,
    live: bool,
    /// Whether the live line has something on it.
    shown: Mutex<bool>,
    pace: Mutex<Option<Pace>>,
}

impl Talk {
    pub(crate) fn new(verbose: bool) -> Self {
        let live = std::io::stderr().is_terminal() && !verbose;
        Talk {
            // A line that moves may move often; lines that stay should be few.
            lines: Lines::new(if live { 1 } else { 10 }, verbose),
            live,
            shown: Mutex::new(false),
            pace: Mutex::new(None),
        }
    }

    /// Shows a line of progress.
    pub(crate) fn say(&self, line: &str) {
        let line = printable(line);
        let mut shown = lock(&self.shown);
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
        let mut shown = lock(&self.shown);
        if std::mem::take(&mut *shown) {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K").and_then(|()| stderr.flush());
        }
    }

    /// The line with the pace, on a terminal.
    fn live_line(&self, event: &Event) -> Option<String> {
        if !self.live || event.status != Some(Status::Running) {
            return None;
        }
        let mut pace = lock(&self.pace);
        let pace = match &mut *pace {
            Some(pace) if pace.is_of(event) => pace,
            other => other.insert(Pace::begin(event)),
        };
        let moved = event.done.unwrap_or_default() - pace.from;
        live_line(event, moved, pace.since.elapsed())
    }
}

impl Sink for Talk {
    fn emit(&self, event: Event) {
        let Some(line) = self.lines.line(&event) else {
            return;
        };
        self.say(&self.live_line(&event).unwrap_or(line));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded values are whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn long_work_is_told_often_to_who_wants_it() {
        let lines = Lines::new(1, false);
        let total = 10 << 30;
        let told = (0..=2560u64).map(|n| n * (4 << 20)).filter(|done| {
            let event = Event::bytes("get", "a", *done, Some(total));
            lines.line(&event).is_some()
        });
        assert_eq!(told.count(), 2561);
    }

    #[test]
    fn the_pace_of_a_download() {
        const MIB: u64 = 1 << 20;
        let event = |done, total| Event::bytes("download", "a.raw", done, total);
        for (event, moved, seconds, line) in [
            (
                event(0, Some(8 * MIB)),
                0,
                9.0,
                "0 B of 8.0 MiB: download a.raw",
            ),
            (
                event(MIB, Some(8 * MIB)),
                MIB,
                0.1,
                "1.0 MiB of 8.0 MiB: download a.raw",
            ),
            (
                event(6 * MIB, Some(8 * MIB)),
                MIB,
                2.0,
                "6.0 MiB of 8.0 MiB, 512.0 KiB/s, 0:04 left: download a.raw",
            ),
            (
                event(MIB, None),
                MIB,
                1.0,
                "1.0 MiB, 1.0 MiB/s: download a.raw",
            ),
            (
                event(MIB, Some(u64::MAX)),
                1,
                1.0,
                "1.0 MiB of 16777216.0 TiB, 1 B/s: download a.raw",
            ),
            (
                event(MIB, Some(MIB)),
                MIB,
                1.0,
                "1.0 MiB of 1.0 MiB, 1.0 MiB/s, 0:00 left: download a.raw",
            ),
        ] {
            let elapsed = Duration::from_secs_f64(seconds);
            assert_eq!(live_line(&event, moved, elapsed).as_deref(), Some(line));
        }
        let items = Event::items("verify", "a", 1, Some(2));
        assert_eq!(live_line(&items, 1, Duration::from_secs(1)), None);
        for (seconds, text) in [
            (0, "0:00"),
            (61, "1:01"),
            (3600, "1:00:00"),
            (35999, "9:59:59"),
        ] {
            assert_eq!(duration(seconds), text);
        }
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
