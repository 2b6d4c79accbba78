//! The fields of a span or an event.

use std::fmt::Debug;

use tracing::field::{Field, Visit};

/// The fields, as they are recorded; the message apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    pub(crate) message: String,
    pub(crate) named: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Values that are recorded with `%` come here too, and look as they display.
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.named.push((field.name(), text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.named.push((field.name(), value.to_owned()));
        }
    }
}
