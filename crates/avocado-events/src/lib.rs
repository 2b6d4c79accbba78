//! The one progress event that every crate reports with, and the one request to stop.
//!
//! A library that does long work takes `&dyn Sink` and calls [`Sink::emit`]. What becomes of the
//! event (a live line, an NDJSON document, a varlink reply) is for the binary to decide, so the
//! same work looks the same on the host, over varlink and in a log.

mod cancel;

pub use cancel::Cancel;

use serde::{Deserialize, Serialize};

/// What an [`Event`] says about the step that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Known and waiting for its turn.
    Pending,
    /// At work; `done` and `total` say how far.
    Running,
    /// Finished, with a result.
    Success,
    /// Not run, because its result is already there; `message` says why.
    Skipped,
    /// Ended without a result; `message` says what failed.
    Failed,
    /// Ended without a result, because a stop was asked for.
    Stopped,
}

/// What `done` and `total` of an [`Event`] count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AmountUnit {
    /// Things: packages, files, images.
    #[default]
    Items,
    /// Bytes.
    Bytes,
}

/// What kind of statement an [`Event`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The state of a step changed, or it moved forward.
    Step,
    /// A line that a tool printed while the step ran.
    Output,
    /// Something worth telling the user.
    Info,
    /// Something that the user should look at; the work goes on.
    Warning,
}

/// One statement about long work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The kind of statement. In JSON the key is `event`.
    #[serde(rename = "event")]
    pub kind: EventKind,
    /// The step's stable name, for example `ext image hello` or `download`. Empty where the
    /// statement belongs to no step.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stage: String,
    /// The thing that the step is busy with: a package, a file, an image id. May be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub item: String,
    /// The state of the step, for [`EventKind::Step`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StepStatus>,
    /// How much of `total` is done, in `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// How much there is to do, in `unit`, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What `done` and `total` count.
    #[serde(default)]
    pub unit: AmountUnit,
    /// A sentence for a person. May be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Event {
    fn new(kind: EventKind, stage: impl Into<String>, message: impl Into<String>) -> Self {
        Event {
            kind,
            stage: stage.into(),
            item: String::new(),
            status: None,
            done: None,
            total: None,
            unit: AmountUnit::Items,
            message: message.into(),
        }
    }

    /// The step `stage` is now in `status`.
    pub fn step(stage: impl Into<String>, status: StepStatus, message: impl Into<String>) -> Self {
        Event {
            status: Some(status),
            ..Event::new(EventKind::Step, stage, message)
        }
    }

    /// The step `stage` has done `done` of `total` bytes of `item`.
    pub fn bytes(
        stage: impl Into<String>,
        item: impl Into<String>,
        done: u64,
        total: Option<u64>,
    ) -> Self {
        Event {
            item: item.into(),
            done: Some(done),
            total,
            unit: AmountUnit::Bytes,
            ..Event::step(stage, StepStatus::Running, "")
        }
    }

    /// The step `stage` has done `done` of `total` things and is busy with `item`.
    pub fn items(
        stage: impl Into<String>,
        item: impl Into<String>,
        done: u64,
        total: Option<u64>,
    ) -> Self {
        Event {
            unit: AmountUnit::Items,
            ..Event::bytes(stage, item, done, total)
        }
    }

    /// A line of a tool's output, while `stage` ran.
    pub fn output(stage: impl Into<String>, line: impl Into<String>) -> Self {
        Event::new(EventKind::Output, stage, line)
    }

    /// Something worth telling.
    pub fn info(message: impl Into<String>) -> Self {
        Event::new(EventKind::Info, "", message)
    }

    /// Something that the user should look at.
    pub fn warning(message: impl Into<String>) -> Self {
        Event::new(EventKind::Warning, "", message)
    }
}

/// Where events go. Implementations must not block for long: work waits while they run.
pub trait Sink: Send + Sync {
    /// Takes one event.
    fn emit(&self, event: Event);
}

/// A sink that forgets everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Sink for Silent {
    fn emit(&self, _event: Event) {}
}

impl<F: Fn(Event) + Send + Sync> Sink for F {
    fn emit(&self, event: Event) {
        self(event);
    }
}

/// An error and what caused it, in one line: the `message` of an event about a failure. A `Display`
/// that does not repeat its source is expected, as everywhere here.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_only_what_is_said() {
        let event = Event::bytes("download", "a.raw", 5, Some(10));
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(
            json,
            r#"{"event":"step","stage":"download","item":"a.raw","status":"running","done":5,"total":10,"unit":"bytes"}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }

    #[test]
    fn a_closure_is_a_sink() {
        let seen = std::sync::Mutex::new(Vec::new());
        let sink = |e: Event| seen.lock().unwrap().push(e.message);
        sink.emit(Event::info("hello"));
        assert_eq!(*seen.lock().unwrap(), ["hello"]);
    }
}
