use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use avocado_events::{Event, EventKind, StepStatus};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::messages::print_line;
use super::{Renderer, WorkStart, WorkSummary, write_data};
use crate::failure::{Failure, Result};

/// NDJSON on stdout: one document a line. The events are as they are, and steps besides as other
/// programs know them: `task_registered` before the first event of one, `name` in each, and `step_error`
/// after one that failed.
#[derive(Default)]
pub(super) struct JsonRenderer {
    /// The steps that were mentioned.
    registered: Mutex<BTreeSet<String>>,
}

impl JsonRenderer {
    /// The lines that an event is.
    fn documents(&self, event: &Event) -> Vec<Value> {
        let Ok(mut document) = serde_json::to_value(event) else {
            return Vec::new();
        };
        let name = &event.stage;
        if name.is_empty() {
            return vec![document];
        }
        document["name"] = json!(name);
        let mut documents = Vec::new();
        let registered = self.registered.lock();
        let mut registered = registered.unwrap_or_else(PoisonError::into_inner);
        if registered.insert(name.clone()) {
            documents.push(json!({ "event": "task_registered", "name": name, "label": name }));
        }
        documents.push(document);
        if event.kind == EventKind::Step && event.status == Some(StepStatus::Failed) {
            let message = &event.message;
            documents.push(json!({ "event": "step_error", "name": name, "message": message }));
        }
        documents
    }
}

/// Puts `event` before the fields of a document.
#[derive(Serialize)]
struct TaggedDocument<'a, T> {
    event: &'a str,
    #[serde(flatten)]
    fields: &'a T,
}

impl Renderer for JsonRenderer {
    fn start(&self, start: &WorkStart<'_>) {
        // Progress that cannot be written must not stop the work.
        _ = line(&TaggedDocument {
            event: "start",
            fields: start,
        });
    }

    fn event(&self, event: Event) {
        for document in self.documents(&event) {
            _ = line(&document);
        }
    }

    fn stopping(&self) {}

    fn log(&self, line: &str) {
        print_line(line);
    }

    fn complete(&self, summary: WorkSummary) -> Result<()> {
        let mut document = Map::from_iter([
            ("event".to_owned(), json!("complete")),
            ("success".to_owned(), Value::Bool(true)),
        ]);
        document.extend(summary.fields);
        line(&document)
    }

    fn fail(&self, failure: &Failure) {
        _ = line(&TaggedDocument {
            event: "error",
            fields: failure,
        });
    }
}

pub(super) fn line(document: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec(document)
        .map_err(|e| Failure::new("cannot write an event as JSON").because(&e))?;
    text.push(b'\n');
    write_data(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_as_other_programs_know_them_too() {
        let renderer = JsonRenderer::default();
        let events = [
            Event::step("ext image app", StepStatus::Running, ""),
            Event::output("ext image app", "a line"),
            Event::step("ext image app", StepStatus::Failed, "no space"),
            Event::info("a word"),
        ];
        let documents: Vec<Value> = events.iter().flat_map(|e| renderer.documents(e)).collect();
        let text = |key: &str| -> Vec<&str> {
            let values = documents.iter().map(|d| d[key].as_str());
            values.map(|value| value.unwrap_or("-")).collect()
        };
        let kinds = [
            "task_registered",
            "step",
            "output",
            "step",
            "step_error",
            "info",
        ];
        assert_eq!(text("event"), kinds);
        let app = "ext image app";
        assert_eq!(text("name"), [app, app, app, app, app, "-"]);
        assert_eq!(text("stage"), ["-", app, app, app, "-", "-"]);
        assert_eq!(text("status"), ["-", "running", "-", "failed", "-", "-"]);
        assert_eq!(documents[0]["label"], app);
        assert_eq!(documents[4]["message"], "no space");
    }
}
