use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use avocado_events::Event;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::messages::{MessageFormatter, STOPPING, paragraph, print_line};
use super::steps::{EventEffect, StepTracker};
use super::{Renderer, WorkStart, WorkSummary, write_data};
use crate::failure::{Failure, Result};

/// How often a line redraws by itself, so that its clock moves.
const TICK: Duration = Duration::from_millis(120);

/// A line for each running step, redrawn in place, over a line that counts; what ended scrolls up.
pub(super) struct LiveRenderer {
    format: MessageFormatter,
    screen: Mutex<LiveScreen>,
}

struct LiveScreen {
    bars: MultiProgress,
    steps: StepTracker,
    running: HashMap<String, ProgressBar>,
    footer: Option<ProgressBar>,
    title: String,
}

impl LiveRenderer {
    pub(super) fn new(verbose: bool, color: bool) -> Self {
        LiveRenderer {
            format: MessageFormatter::new(verbose, color),
            screen: Mutex::new(LiveScreen {
                bars: MultiProgress::new(),
                steps: StepTracker::default(),
                running: HashMap::new(),
                footer: None,
                title: String::new(),
            }),
        }
    }

    fn screen(&self) -> MutexGuard<'_, LiveScreen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveScreen {
    /// Prints a line that stays, above the lines that move.
    fn print(&self, line: &str) {
        if self.footer.is_none() || self.bars.println(line).is_err() {
            print_line(line);
        }
    }

    /// The counting line is there as soon as, and as long as, something moves above it.
    fn count(&mut self) {
        let (ended, known) = self.steps.tally();
        let footer = self.footer.get_or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::no_length());
            bar.set_style(style("{wide_msg} {clock}"));
            bar.enable_steady_tick(TICK);
            bar
        });
        footer.set_message(format!(
            "{} {ended} of {}",
            self.title,
            avocado_text::count(known, "step")
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
            let what = self.steps.describe(stage, now);
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

impl Renderer for LiveRenderer {
    fn start(&self, start: &WorkStart<'_>) {
        let mut title = start.action.to_owned();
        for part in [start.target, start.runtime].into_iter().flatten() {
            title += " ";
            title += part;
        }
        self.screen().title = title + ":";
    }

    fn event(&self, event: Event) {
        let now = Instant::now();
        let format = self.format;
        let mut screen = self.screen();
        match screen.steps.take(&event, now) {
            EventEffect::Started => {
                screen.started(&event.stage);
                screen.progressed(&event.stage, now);
            }
            EventEffect::Progressed => screen.progressed(&event.stage, now),
            EventEffect::Finished(time) => {
                screen.ended(&event.stage);
                screen.print(&format.finished(&event.stage, &event.message, time));
            }
            EventEffect::Failed(time, log) => {
                screen.ended(&event.stage);
                for line in format.failed(&event.stage, time, &log) {
                    screen.print(&line);
                }
            }
            EventEffect::Stopped(time) => {
                screen.ended(&event.stage);
                screen.print(&format.stopped(&event.stage, time));
            }
            EventEffect::Skipped => {
                screen.ended(&event.stage);
                if format.verbose {
                    screen.print(&format.skipped(&event));
                }
            }
            EventEffect::Output if format.verbose => {
                screen.print(&format.tool_line(&event.stage, &event.message));
            }
            EventEffect::Said => {
                for line in format.said(&event).lines() {
                    screen.print(line);
                }
            }
            EventEffect::Output | EventEffect::Nothing => {}
        }
    }

    fn stopping(&self) {
        let mut screen = self.screen();
        screen.steps.stop();
        screen.print(STOPPING);
    }

    fn pause(&self) {
        self.screen().close();
    }

    fn log(&self, line: &str) {
        self.screen().print(line);
    }

    fn complete(&self, summary: WorkSummary) -> Result<()> {
        self.screen().close();
        write_data(summary.data.as_bytes())?;
        if !summary.closing.is_empty() {
            print_line(&paragraph(&summary.closing, ""));
        }
        Ok(())
    }

    fn fail(&self, failure: &Failure) {
        self.screen().close();
        print_line(&self.format.failure(failure));
    }
}

/// A style whose `{clock}` is the time since the bar was made.
fn style(template: &str) -> ProgressStyle {
    let clock = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        _ = out.write_str(&avocado_text::duration(state.elapsed()));
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .with_key("clock", clock)
}
