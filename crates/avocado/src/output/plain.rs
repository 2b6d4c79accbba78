use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use avocado_events::Event;

use super::messages::{MessageFormatter, STOPPING, paragraph, print_line};
use super::steps::{EventEffect, StepTracker};
use super::{Renderer, WorkStart, WorkSummary, write_data};
use crate::failure::{Failure, Result};

/// A line when a step starts and a line when it ends: for logs and pipes.
pub(super) struct PlainRenderer {
    format: MessageFormatter,
    steps: Mutex<StepTracker>,
}

impl PlainRenderer {
    pub(super) fn new(verbose: bool, color: bool) -> Self {
        PlainRenderer {
            format: MessageFormatter::new(verbose, color),
            steps: Mutex::default(),
        }
    }

    fn steps(&self) -> MutexGuard<'_, StepTracker> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines for an event.
    fn lines(&self, event: &Event, now: Instant) -> Vec<String> {
        let format = self.format;
        match self.steps().take(event, now) {
            // Why it runs is for those who ask.
            EventEffect::Started if format.verbose && !event.message.is_empty() => {
                vec![format!(
                    "{}: started ({})",
                    event.stage,
                    avocado_text::strip(&event.message)
                )]
            }
            EventEffect::Started => vec![format!("{}: started", event.stage)],
            EventEffect::Finished(time) => {
                vec![format.finished(&event.stage, &event.message, time)]
            }
            EventEffect::Failed(time, log) => format.failed(&event.stage, time, &log),
            EventEffect::Stopped(time) => vec![format.stopped(&event.stage, time)],
            EventEffect::Said => vec![format.said(event)],
            EventEffect::Output if format.verbose => {
                vec![format.tool_line(&event.stage, &event.message)]
            }
            EventEffect::Skipped if format.verbose => vec![format.skipped(event)],
            EventEffect::Output
            | EventEffect::Skipped
            | EventEffect::Progressed
            | EventEffect::Nothing => Vec::new(),
        }
    }
}

impl Renderer for PlainRenderer {
    fn start(&self, _start: &WorkStart<'_>) {}

    fn event(&self, event: Event) {
        for line in self.lines(&event, Instant::now()) {
            print_line(&line);
        }
    }

    fn stopping(&self) {
        self.steps().stop();
        print_line(STOPPING);
    }

    fn log(&self, line: &str) {
        print_line(line);
    }

    fn complete(&self, summary: WorkSummary) -> Result<()> {
        write_data(summary.data.as_bytes())?;
        if !summary.closing.is_empty() {
            print_line(&paragraph(&summary.closing, ""));
        }
        Ok(())
    }

    fn fail(&self, failure: &Failure) {
        print_line(&self.format.failure(failure));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use avocado_events::StepStatus;

    fn play(verbose: bool) -> String {
        let events = [
            Event::step("rootfs install", StepStatus::Pending, ""),
            Event::step("ext install app", StepStatus::Skipped, "nothing changed"),
            Event::step("rootfs install", StepStatus::Running, ""),
            Event::items("rootfs install", "bash", 1, Some(2)),
            Event::output("rootfs install", "Installing: bash\r"),
            Event::step("rootfs image", StepStatus::Running, ""),
            Event::step("rootfs image", StepStatus::Success, ""),
            Event::warning("a key is unknown\nin avocado.yaml"),
            Event::step("rootfs install", StepStatus::Failed, "dnf failed"),
        ];
        let plain = PlainRenderer::new(verbose, false);
        let now = Instant::now();
        let lines: Vec<String> = events.iter().flat_map(|e| plain.lines(e, now)).collect();
        lines.join("\n")
    }

    #[test]
    fn a_line_at_the_start_and_one_at_the_end() {
        insta::assert_snapshot!("plain", play(false));
    }

    #[test]
    fn everything_when_asked() {
        insta::assert_snapshot!("plain-verbose", play(true));
    }
}
