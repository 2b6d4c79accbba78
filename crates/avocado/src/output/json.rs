use avocado_events::Event;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::messages::print_line;
use super::{Renderer, WorkStart, WorkSummary, write_data};
use crate::failure::{Failure, Result};

/// NDJSON on stdout: one document a line, the events as they are.
pub(super) struct JsonRenderer;

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
        _ = line(&event);
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
