use avocado_events::Event;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Renderer, Start, Summary, write_data};
use crate::failure::{Failure, Result};

/// NDJSON on stdout: one document a line, the events as they are.
pub(super) struct Json;

/// Puts `event` before the fields of a document.
#[derive(Serialize)]
struct Tagged<'a, T> {
    event: &'a str,
    #[serde(flatten)]
    fields: &'a T,
}

impl Renderer for Json {
    fn start(&self, start: &Start<'_>) {
        // Progress that cannot be written must not stop the work.
        _ = line(&Tagged {
            event: "start",
            fields: start,
        });
    }

    fn event(&self, event: Event) {
        _ = line(&event);
    }

    fn stopping(&self) {}

    fn complete(&self, summary: Summary) -> Result<()> {
        let mut document = Map::from_iter([
            ("event".to_owned(), json!("complete")),
            ("success".to_owned(), Value::Bool(true)),
        ]);
        document.extend(summary.fields);
        line(&document)
    }

    fn fail(&self, failure: &Failure) {
        _ = line(&Tagged {
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
