//! What is known of the running steps, gathered from the event stream. Both human forms draw
//! from it.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use avocado_events::{AmountUnit, Event, EventKind, StepStatus};
use avocado_text::strip;

/// How many lines of a step's captured output are kept: enough for the end of any failure,
/// little enough for a step that prints without end.
const KEPT_LINES: usize = 500;

/// What an event meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EventEffect {
    /// A step began.
    Started,
    /// A running step moved.
    Progressed,
    /// A step ended well.
    Finished(Duration),
    /// A step was not needed.
    Skipped,
    /// A step failed; these lines it had printed.
    Failed(Duration, Vec<String>),
    /// A step ended without a result because a stop was asked for.
    Stopped(Duration),
    /// A line that a tool printed.
    Output,
    /// A statement for the reader.
    Said,
    /// Nothing to show.
    Nothing,
}

/// One running step.
#[derive(Debug)]
struct Step {
    started: Instant,
    item: String,
    done: Option<u64>,
    total: Option<u64>,
    unit: AmountUnit,
    lines: VecDeque<String>,
    dropped: usize,
}

impl Step {
    fn new(now: Instant) -> Self {
        Step {
            started: now,
            item: String::new(),
            done: None,
            total: None,
            unit: AmountUnit::Items,
            lines: VecDeque::new(),
            dropped: 0,
        }
    }

    fn log(self) -> Vec<String> {
        let note = (self.dropped > 0).then(|| {
            format!(
                "({} left out)",
                avocado_text::count(self.dropped as u64, "earlier line")
            )
        });
        note.into_iter().chain(self.lines).collect()
    }
}

/// The steps of one piece of work.
#[derive(Debug, Default)]
pub(super) struct StepTracker {
    running: HashMap<String, Step>,
    known: u64,
    ended: u64,
    stopping: bool,
}

impl StepTracker {
    /// From now on steps end because a stop was asked for, which needs no explanation.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Takes an event and says what changed by it.
    pub(super) fn take(&mut self, event: &Event, now: Instant) -> EventEffect {
        match event.kind {
            EventKind::Info | EventKind::Warning => EventEffect::Said,
            EventKind::Output => {
                if let Some(step) = self.running.get_mut(&event.stage) {
                    if step.lines.len() == KEPT_LINES {
                        step.lines.pop_front();
                        step.dropped += 1;
                    }
                    step.lines.push_back(strip(&event.message));
                }
                EventEffect::Output
            }
            EventKind::Step => match event.status {
                None => EventEffect::Nothing,
                Some(StepStatus::Pending) => {
                    self.known += 1;
                    EventEffect::Nothing
                }
                Some(StepStatus::Running) => self.progress(event, now),
                Some(StepStatus::Skipped) => {
                    self.running.remove(&event.stage);
                    self.ended += 1;
                    EventEffect::Skipped
                }
                Some(StepStatus::Success) => {
                    self.ended += 1;
                    let step = self.running.remove(&event.stage);
                    EventEffect::Finished(step.map_or(Duration::ZERO, |s| now - s.started))
                }
                Some(status @ (StepStatus::Failed | StepStatus::Stopped)) => {
                    self.ended += 1;
                    let step = self.running.remove(&event.stage);
                    let time = step.as_ref().map_or(Duration::ZERO, |s| now - s.started);
                    if self.stopping || status == StepStatus::Stopped {
                        EventEffect::Stopped(time)
                    } else {
                        EventEffect::Failed(time, step.map_or_else(Vec::new, Step::log))
                    }
                }
            },
        }
    }

    fn progress(&mut self, event: &Event, now: Instant) -> EventEffect {
        let mut change = EventEffect::Progressed;
        let step = self.running.entry(event.stage.clone()).or_insert_with(|| {
            change = EventEffect::Started;
            Step::new(now)
        });
        let what = if event.item.is_empty() {
            &event.message
        } else {
            &event.item
        };
        if !what.is_empty() {
            step.item = strip(what);
        }
        if event.done.is_some() {
            (step.done, step.total, step.unit) = (event.done, event.total, event.unit);
        }
        change
    }

    /// Steps that ended, and steps that were announced.
    pub(super) fn tally(&self) -> (u64, u64) {
        (
            self.ended,
            self.known.max(self.ended + self.running.len() as u64),
        )
    }

    /// What a running step is busy with: `3/12 bash`, `1.0 MiB of 4.0 MiB, 512.0 KiB/s, 6 s left
    /// a.raw`. Empty where nothing is known.
    pub(super) fn describe(&self, stage: &str, now: Instant) -> String {
        let Some(step) = self.running.get(stage) else {
            return String::new();
        };
        let amount = match (step.done, step.total, step.unit) {
            (None, ..) => String::new(),
            (Some(done), Some(total), AmountUnit::Items) => format!("{done}/{total}"),
            (Some(done), None, AmountUnit::Items) => done.to_string(),
            (Some(done), total, AmountUnit::Bytes) => transfer(done, total, now - step.started),
        };
        match (amount.is_empty(), step.item.is_empty()) {
            (false, false) => format!("{amount} {}", step.item),
            _ => amount + &step.item,
        }
    }
}

/// Bytes done and to do, the rate, and the time that is left at this rate.
fn transfer(done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let mut text = avocado_text::bytes(done);
    if let Some(total) = total {
        text += &format!(" of {}", avocado_text::bytes(total));
    }
    let seconds = elapsed.as_secs_f64();
    // A rate from less than a second is noise.
    if seconds < 1.0 || done == 0 {
        return text;
    }
    let rate = done as f64 / seconds;
    text += &format!(", {}/s", avocado_text::bytes(rate as u64));
    if let Some(left) = total
        .and_then(|total| total.checked_sub(done))
        .filter(|&n| n > 0)
    {
        let left = Duration::from_secs((left as f64 / rate).min(1e9) as u64);
        text += &format!(", {} left", avocado_text::duration(left));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_runs_through_its_life() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let step = |status| Event::step("ext image a", status, "");
        let mut steps = StepTracker::default();

        assert_eq!(
            steps.take(&step(StepStatus::Pending), at(0)),
            EventEffect::Nothing
        );
        assert_eq!(
            steps.take(&Event::step("b", StepStatus::Pending, ""), at(0)),
            EventEffect::Nothing
        );
        assert_eq!(steps.tally(), (0, 2));
        assert_eq!(
            steps.take(&step(StepStatus::Running), at(0)),
            EventEffect::Started
        );
        assert_eq!(steps.describe("ext image a", at(1)), "");
        let moved = Event::items("ext image a", "bin/x", 3, Some(12));
        assert_eq!(steps.take(&moved, at(5)), EventEffect::Progressed);
        assert_eq!(steps.describe("ext image a", at(6)), "3/12 bin/x");
        assert_eq!(
            steps.take(&Event::output("ext image a", "hm\u{7}"), at(7)),
            EventEffect::Output
        );
        assert_eq!(
            steps.take(&step(StepStatus::Failed), at(9)),
            EventEffect::Failed(Duration::from_millis(9), vec!["hm".into()])
        );
        assert_eq!(
            steps.take(&Event::step("b", StepStatus::Skipped, ""), at(9)),
            EventEffect::Skipped
        );
        assert_eq!(steps.tally(), (2, 2));
    }

    #[test]
    fn what_was_stopped_has_not_failed() {
        let now = Instant::now();
        // The step may have seen the signal before this process did.
        for (asked, status, expected) in [
            (
                true,
                StepStatus::Failed,
                EventEffect::Stopped(Duration::ZERO),
            ),
            (
                false,
                StepStatus::Stopped,
                EventEffect::Stopped(Duration::ZERO),
            ),
            (
                false,
                StepStatus::Failed,
                EventEffect::Failed(Duration::ZERO, vec!["line".into()]),
            ),
        ] {
            let mut steps = StepTracker::default();
            steps.take(&Event::step("s", StepStatus::Running, ""), now);
            steps.take(&Event::output("s", "line"), now);
            if asked {
                steps.stop();
            }
            let ended = Event::step("s", status, "why");
            assert_eq!(steps.take(&ended, now), expected);
        }
    }

    #[test]
    fn bytes_show_rate_and_time_left() {
        let start = Instant::now();
        let mut steps = StepTracker::default();
        steps.take(&Event::bytes("get", "a.raw", 1 << 20, Some(4 << 20)), start);
        let shown = |ms| steps.describe("get", start + Duration::from_millis(ms));
        assert_eq!(shown(10), "1.0 MiB of 4.0 MiB a.raw");
        assert_eq!(
            shown(2000),
            "1.0 MiB of 4.0 MiB, 512.0 KiB/s, 6.0 s left a.raw"
        );
    }

    #[test]
    fn captured_output_is_bounded() {
        let now = Instant::now();
        let mut steps = StepTracker::default();
        steps.take(&Event::step("s", StepStatus::Running, ""), now);
        for line in 0..KEPT_LINES + 2 {
            steps.take(&Event::output("s", line.to_string()), now);
        }
        let EventEffect::Failed(_, log) =
            steps.take(&Event::step("s", StepStatus::Failed, ""), now)
        else {
            panic!("did not fail");
        };
        assert_eq!(log.len(), KEPT_LINES + 1);
        assert_eq!(log[0], "(2 earlier lines left out)");
        assert_eq!(log[1], "2");
    }
}
