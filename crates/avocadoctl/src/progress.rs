//! Events as lines of text, few enough to send and to read.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use avocado_events::{AmountUnit, Event, EventKind, Sink, StepStatus};
use avocado_text::{bytes, duration, escape};

/// Begins the lines that stay on the screen.
const WARNING: &str = "warning: ";

/// Turns events into lines. Of the many that say how far a thing is, only those are let through
/// that bring it forward by a step.
#[derive(Debug)]
pub(crate) struct ProgressLines {
    /// In percent.
    step: u64,
    /// With what tools print.
    verbose: bool,
    /// Stage and item, and how far it was when it was last told.
    told: Mutex<HashMap<(String, String), u64>>,
}

impl ProgressLines {
    pub(crate) fn new(step: u64, verbose: bool) -> Self {
        ProgressLines {
            step: step.max(1),
            verbose,
            told: Mutex::default(),
        }
    }

    /// The line for an event, or `None` when there is nothing to say.
    pub(crate) fn line(&self, event: &Event) -> Option<String> {
        match event.kind {
            EventKind::Info => Some(event.message.clone()),
            EventKind::Warning => Some(format!("{WARNING}{}", event.message)),
            EventKind::Output => self
                .verbose
                .then(|| format!("{}: {}", event.stage, event.message)),
            EventKind::Step => self.step(event),
        }
    }

    fn step(&self, event: &Event) -> Option<String> {
        let what = if event.item.is_empty() {
            event.stage.clone()
        } else {
            format!("{} {}", event.stage, event.item)
        };
        match event.status? {
            StepStatus::Running => {
                if !self.moved(event) {
                    return None;
                }
                let message = if event.message.is_empty() {
                    String::new()
                } else {
                    format!(": {}", event.message)
                };
                Some(format!("{what}{}{message}", how_far(event)))
            }
            StepStatus::Success | StepStatus::Skipped if event.message.is_empty() => {
                Some(format!("{what}: done"))
            }
            StepStatus::Success | StepStatus::Skipped => Some(format!("{what}: {}", event.message)),
            // What failed is in the error that follows.
            StepStatus::Failed | StepStatus::Stopped | StepStatus::Pending => None,
        }
    }

    /// Whether the thing is at least a step further than when it was last told.
    fn moved(&self, event: &Event) -> bool {
        const UNKNOWN_STEP: u64 = 16 << 20;
        // Who wants to know every percent also wants to see that a long download moves.
        const SMALL_STEP: u64 = 4 << 20;
        let (Some(done), AmountUnit::Bytes) = (event.done, event.unit) else {
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
        (Some(done), Some(total), AmountUnit::Bytes) if total > 0 => {
            let percent = u128::from(done) * 100 / u128::from(total);
            format!(": {percent}% of {}", bytes(total))
        }
        (Some(done), _, AmountUnit::Bytes) => format!(": {}", bytes(done)),
        (Some(done), Some(total), AmountUnit::Items) => format!(" ({done} of {total})"),
        _ => String::new(),
    }
}

/// How fast a piece of work moves.
#[derive(Debug)]
struct TransferRate {
    stage: String,
    item: String,
    /// How much was done when it was first heard of.
    from: u64,
    since: Instant,
}

impl TransferRate {
    fn begin(event: &Event) -> Self {
        TransferRate {
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
    let (Some(done), AmountUnit::Bytes) = (event.done, event.unit) else {
        return None;
    };
    let mut line = match event.total {
        Some(total) => format!("{} of {}", bytes(done), bytes(total)),
        None => bytes(done),
    };
    // The first moment says nothing about the rate.
    let seconds = elapsed.as_secs_f64();
    if seconds >= 0.5 && moved > 0 {
        let rate = moved as f64 / seconds;
        line.push_str(&format!(", {}/s", bytes(rate as u64)));
        let left = event
            .total
            .map(|total| total.saturating_sub(done) as f64 / rate);
        if let Some(left) = left.filter(|left| *left < 360_000.0) {
            line.push_str(&format!(
                ", {} left",
                duration(Duration::from_secs(left.ceil() as u64))
            ));
        }
    }
    let item = if event.item.is_empty() { "" } else { " " };
    Some(format!("{line}: {}{item}{}", event.stage, event.item))
}

/// Tells progress on stderr: on a terminal in one line that is written over and over, elsewhere
/// line by line.
#[derive(Debug)]
pub(crate) struct ProgressPrinter {
    lines: ProgressLines,
    live: bool,
    /// Whether the live line has something on it.
    shown: Mutex<bool>,
    rate: Mutex<Option<TransferRate>>,
}

impl ProgressPrinter {
    pub(crate) fn new(verbose: bool) -> Self {
        let live = std::io::stderr().is_terminal() && !verbose;
        ProgressPrinter {
            // A line that moves may move often; lines that stay should be few.
            lines: ProgressLines::new(if live { 1 } else { 10 }, verbose),
            live,
            shown: Mutex::new(false),
            rate: Mutex::new(None),
        }
    }

    /// Shows a line of progress.
    pub(crate) fn say(&self, line: &str) {
        let line = escape(line);
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

    /// The line with the rate, on a terminal.
    fn live_line(&self, event: &Event) -> Option<String> {
        if !self.live || event.status != Some(StepStatus::Running) {
            return None;
        }
        let mut rate = lock(&self.rate);
        let rate = match &mut *rate {
            Some(rate) if rate.is_of(event) => rate,
            other => other.insert(TransferRate::begin(event)),
        };
        let moved = event.done.unwrap_or_default() - rate.from;
        live_line(event, moved, rate.since.elapsed())
    }
}

impl Sink for ProgressPrinter {
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
        let lines = ProgressLines::new(5, false);
        for (event, line) in [
            (Event::info("hello"), Some("hello")),
            (Event::warning("careful"), Some("warning: careful")),
            (Event::output("depmod", "noise"), None),
            (Event::step("add", StepStatus::Running, ""), Some("add")),
            (
                Event::step("add", StepStatus::Running, "metadata"),
                Some("add: metadata"),
            ),
            (
                Event::step("add", StepStatus::Success, ""),
                Some("add: done"),
            ),
            (
                Event::step("add", StepStatus::Skipped, "is there"),
                Some("add: is there"),
            ),
            (Event::step("add", StepStatus::Failed, "why"), None),
            (Event::step("add", StepStatus::Pending, ""), None),
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
        let verbose = ProgressLines::new(5, true);
        assert_eq!(
            verbose.line(&Event::output("a", "b")).as_deref(),
            Some("a: b")
        );
    }

    #[test]
    fn progress_is_told_in_steps() {
        let lines = ProgressLines::new(5, false);
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
        let lines = ProgressLines::new(1, false);
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
                "6.0 MiB of 8.0 MiB, 512.0 KiB/s, 4.0 s left: download a.raw",
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
                "1.0 MiB of 16384.0 PiB, 1 B/s: download a.raw",
            ),
            (
                event(MIB, Some(MIB)),
                MIB,
                1.0,
                "1.0 MiB of 1.0 MiB, 1.0 MiB/s, 0.0 s left: download a.raw",
            ),
        ] {
            let elapsed = Duration::from_secs_f64(seconds);
            assert_eq!(live_line(&event, moved, elapsed).as_deref(), Some(line));
        }
        let items = Event::items("verify", "a", 1, Some(2));
        assert_eq!(live_line(&items, 1, Duration::from_secs(1)), None);
    }
}
