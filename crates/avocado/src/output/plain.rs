use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use avocado_events::Event;

use super::ledger::{Change, Ledger};
use super::text;
use super::voice::{STOPPING, Voice, say};
use super::{Renderer, Start, Summary, write_data};
use crate::failure::{Failure, Result};

/// A line when a step starts and a line when it ends: for logs and pipes.
pub(super) struct Plain {
    voice: Voice,
    ledger: Mutex<Ledger>,
}

impl Plain {
    pub(super) fn new(verbose: bool, color: bool) -> Self {
        Plain {
            voice: Voice::new(verbose, color),
            ledger: Mutex::default(),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines for an event.
    fn lines(&self, event: &Event, now: Instant) -> Vec<String> {
        let voice = self.voice;
        match self.ledger().take(event, now) {
            // Why it runs is for those who ask.
            Change::Started if voice.verbose && !event.message.is_empty() => {
                vec![format!(
                    "{}: started ({})",
                    event.stage,
                    text::plain(&event.message)
                )]
            }
            Change::Started => vec![format!("{}: started", event.stage)],
            Change::Finished(time) => vec![voice.finished(&event.stage, &event.message, time)],
            Change::Failed(time, log) => voice.failed(&event.stage, time, &log),
            Change::Stopped(time) => vec![voice.stopped(&event.stage, time)],
            Change::Said => vec![voice.said(event)],
            Change::Output if voice.verbose => vec![voice.tool_line(&event.stage, &event.message)],
            Change::Skipped if voice.verbose => vec![voice.skipped(event)],
            Change::Output | Change::Skipped | Change::Progressed | Change::Nothing => Vec::new(),
        }
    }
}

impl Renderer for Plain {
    fn start(&self, _start: &Start<'_>) {}

    fn event(&self, event: Event) {
        for line in self.lines(&event, Instant::now()) {
            say(&line);
        }
    }

    fn stopping(&self) {
        self.ledger().stop();
        say(STOPPING);
    }

    fn complete(&self, summary: Summary) -> Result<()> {
        write_data(summary.data.as_bytes())?;
        if !summary.closing.is_empty() {
            say(summary.closing.trim_end());
        }
        Ok(())
    }

    fn fail(&self, failure: &Failure) {
        say(&self.voice.failure(failure));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use avocado_events::Status;

    fn play(verbose: bool) -> String {
        let events = [
            Event::step("rootfs install", Status::Pending, ""),
            Event::step("ext install app", Status::Skipped, "nothing changed"),
            Event::step("rootfs install", Status::Running, ""),
            Event::items("rootfs install", "bash", 1, Some(2)),
            Event::output("rootfs install", "Installing: bash\r"),
            Event::step("rootfs image", Status::Running, ""),
            Event::step("rootfs image", Status::Success, ""),
            Event::warning("a key is unknown\nin avocado.yaml"),
            Event::step("rootfs install", Status::Failed, "dnf failed"),
        ];
        let plain = Plain::new(verbose, false);
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
