//! Everything that the program says. Three forms of the same event stream: live lines on a
//! terminal, plain lines elsewhere, NDJSON for programs. stdout is data, stderr is talk.

mod json;
mod live;
mod messages;
mod plain;
mod steps;
mod style;

use std::io::{ErrorKind, Write};

use avocado_events::{Event, Sink};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::environment::Environment;
use crate::failure::{Context, Failure, Result};
use crate::global_args::{GlobalArgs, OutputFormat};

/// The beginning of long work.
#[derive(Debug, Serialize)]
pub(crate) struct WorkStart<'a> {
    /// What is done: `build`, `deploy`.
    pub(crate) action: &'a str,
    /// For which target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<&'a str>,
    /// For which runtime, where one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runtime: Option<&'a str>,
}

/// The good end of long work.
#[derive(Debug, Default)]
pub(crate) struct WorkSummary {
    /// What a program wants to know: the fields of `complete`.
    pub(crate) fields: Map<String, Value>,
    /// What a person wants to keep: complete lines for stdout.
    pub(crate) data: String,
    /// What a person wants to hear: complete lines for stderr.
    pub(crate) closing: String,
}

/// One form of saying things.
trait Renderer: Send + Sync {
    fn start(&self, start: &WorkStart<'_>);
    fn event(&self, event: Event);
    fn stopping(&self);
    /// Lets the terminal be, until something moves again.
    fn pause(&self) {}
    fn complete(&self, summary: WorkSummary) -> Result<()>;
    /// A line of the log, for people who look for a fault.
    fn log(&self, line: &str);
    fn fail(&self, failure: &Failure);
}

/// Where a command says everything.
pub(crate) struct Output {
    renderer: Box<dyn Renderer>,
    json: bool,
    live: bool,
}

impl Output {
    /// The form that fits the options and the surroundings.
    pub(crate) fn new(global: &GlobalArgs, environment: &Environment) -> Self {
        let json = global.output == OutputFormat::Json;
        let color = environment.color();
        let live = !json && environment.live() && !global.no_tui;
        let renderer: Box<dyn Renderer> = if json {
            Box::new(json::JsonRenderer::default())
        } else if live {
            Box::new(live::LiveRenderer::new(global.verbose > 0, color))
        } else {
            Box::new(plain::PlainRenderer::new(global.verbose > 0, color))
        };
        Output {
            renderer,
            json,
            live,
        }
    }

    /// Whether there are lines that change, at a terminal.
    #[cfg(unix)]
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    pub(crate) fn start(&self, start: &WorkStart<'_>) {
        self.renderer.start(start);
    }

    /// The user asked to stop; the work is about to end.
    pub(crate) fn stopping(&self) {
        self.renderer.stopping();
    }

    /// A question follows: nothing is drawn over it.
    pub(crate) fn pause(&self) {
        self.renderer.pause();
    }

    /// Writes a line of the log to stderr, whatever the form.
    pub(crate) fn log(&self, line: &str) {
        self.renderer.log(line);
    }

    pub(crate) fn complete(&self, summary: WorkSummary) -> Result<()> {
        self.renderer.complete(summary)
    }

    pub(crate) fn fail(&self, failure: &Failure) {
        self.renderer.fail(failure);
    }

    /// Says something to programs, which is no event. Answers whether programs listen.
    pub(crate) fn document(&self, document: &impl Serialize) -> bool {
        if self.json {
            // Progress that cannot be written must not stop the work.
            _ = json::line(document);
        }
        self.json
    }

    /// Answers a query: one JSON document, or text for a person.
    pub(crate) fn answer(
        &self,
        document: &impl Serialize,
        human: impl FnOnce() -> String,
    ) -> Result<()> {
        if !self.json {
            return write_data(human().as_bytes());
        }
        let mut text = serde_json::to_vec_pretty(document)
            .context(|| "cannot write the answer as JSON".into())?;
        text.push(b'\n');
        write_data(&text)
    }
}

impl Sink for Output {
    fn emit(&self, event: Event) {
        self.renderer.event(event);
    }
}

/// Writes to stdout. A reader that has seen enough and went away is no failure.
pub(crate) fn write_data(data: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(data).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new("cannot write to standard output").because(&e))
        }
        _ => Ok(()),
    }
}
