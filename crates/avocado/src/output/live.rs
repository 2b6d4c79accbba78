use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use avocado_events::Event;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::ledger::{Change, Ledger};
use super::text;
use super::voice::{STOPPING, Voice, say};
use super::{Renderer, Start, Summary, write_data};
use crate::failure::{Failure, Result};

/// How often a line redraws by itself, so that its clock moves.
const TICK: Duration = Duration::from_millis(120);

/// A line for each running step, redrawn in place, over a line that counts; what ended scrolls up.
pub(super) struct Live {
    voice: Voice,
    screen: Mutex<Screen>,
}

struct Screen {
    bars: MultiProgress,
    ledger: Ledger,
    running: HashMap<String, ProgressBar>,
    footer: Option<ProgressBar>,
    title: String,
}

impl Live {
    pub(super) fn new(verbose: bool, color: bool) -> Self {
        Live {
            voice: Voice::new(verbose, color),
            screen: Mutex::new(Screen {
                bars: MultiProgress::new(),
                ledger: Ledger::default(),
                running: HashMap::new(),
                footer: None,
                title: String::new(),
            }),
        }
    }

    fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Screen {
    /// Prints a line that stays, above the lines that move.
    fn print(&self, line: &str) {
        if self.footer.is_none() || self.bars.println(line).is_err() {
            say(line);
        }
    }

    /// The counting line is there as soon as, and as long as, something moves above it.
    fn count(&mut self) {
        let (ended, known) = self.ledger.tally();
        let footer = self.footer.get_or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::no_length());
            bar.set_style(style("{wide_msg} {clock}"));
            bar.enable_steady_tick(TICK);
            bar
        });
        footer.set_message(format!(
            "{} {ended} of {}",
            self.title,
            text::count(known, "step")
        ));
    }

    fn started(&mut self, stage: &str) {
        self.count();
        let bar = ProgressBar::no_length();
        let bar = match &self.footer {
            Some(footer) => self.bars.insert_before(footer, bar),
            None => self.bars.add(bar),
        };
        bar.set_style(style("{spinner} {wide_msg} {clock}"));
        bar.set_message(stage.to_owned());
        bar.enable_steady_tick(TICK);
        self.running.insert(stage.to_owned(), bar);
    }

    fn progressed(&self, stage: &str, now: Instant) {
        if let Some(bar) = self.running.get(stage) {
            let what = self.ledger.describe(stage, now);
            bar.set_message(match what.as_str() {
                "" => stage.to_owned(),
                what => format!("{stage}  {what}"),
            });
        }
    }

    fn ended(&mut self, stage: &str) {
        if let Some(bar) = self.running.remove(stage) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        if self.footer.is_some() {
            self.count();
        }
    }

    /// Leaves the terminal as it was found.
    fn close(&mut self) {
        for (_, bar) in self.running.drain() {
            bar.finish_and_clear();
        }
        if let Some(footer) = self.footer.take() {
            footer.finish_and_clear();
        }
    }
}

impl Renderer for Live {
    fn start(&self, start: &Start<'_>) {
        let mut title = start.action.to_owned();
        for part in [start.target, start.runtime].into_iter().flatten() {
            title += " ";
            title += part;
        }
        self.screen().title = title + ":";
    }

    fn event(&self, event: Event) {
        let now = Instant::now();
        let voice = self.voice;
        let mut screen = self.screen();
        match screen.ledger.take(&event, now) {
            Change::Started => {
                screen.started(&event.stage);
                screen.progressed(&event.stage, now);
            }
            Change::Progressed => screen.progressed(&event.stage, now),
            Change::Finished(time) => {
                screen.ended(&event.stage);
                screen.print(&voice.finished(&event.stage, &event.message, time));
            }
            Change::Failed(time, log) => {
                screen.ended(&event.stage);
                for line in voice.failed(&event.stage, time, &log) {
                    screen.print(&line);
                }
            }
            Change::Stopped(time) => {
                screen.ended(&event.stage);
                screen.print(&voice.stopped(&event.stage, time));
            }
            Change::Skipped => {
                screen.ended(&event.stage);
                if voice.verbose {
                    screen.print(&voice.skipped(&event));
                }
            }
            Change::Output if voice.verbose => {
                screen.print(&voice.tool_line(&event.stage, &event.message));
            }
            Change::Said => {
                for line in voice.said(&event).lines() {
                    screen.print(line);
                }
            }
            Change::Output | Change::Nothing => {}
        }
    }

    fn stopping(&self) {
        let mut screen = self.screen();
        screen.ledger.stop();
        screen.print(STOPPING);
    }

    fn complete(&self, summary: Summary) -> Result<()> {
        self.screen().close();
        write_data(summary.data.as_bytes())?;
        if !summary.closing.is_empty() {
            say(summary.closing.trim_end());
        }
        Ok(())
    }

    fn fail(&self, failure: &Failure) {
        self.screen().close();
        say(&self.voice.failure(failure));
    }
}

/// A style whose `{clock}` is the time since the bar was made.
fn style(template: &str) -> ProgressStyle {
    let clock = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        _ = out.write_str(&text::duration(state.elapsed()));
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .with_key("clock", clock)
}
