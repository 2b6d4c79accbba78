//! What a step warns of is part of its result: who takes that from a cache is told as well.

use std::sync::{Mutex, PoisonError};

use avocado_events::{Event, EventKind, Sink};

/// Passes on what a step tells, and keeps what of it is a warning.
pub(crate) struct KeptWarnings<'s> {
    sink: &'s dyn Sink,
    kept: Mutex<Vec<String>>,
}

impl<'s> KeptWarnings<'s> {
    pub(crate) fn new(sink: &'s dyn Sink) -> Self {
        KeptWarnings {
            sink,
            kept: Mutex::default(),
        }
    }

    /// The texts, in the order in which they were told.
    pub(crate) fn into_texts(self) -> Vec<String> {
        self.kept
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for KeptWarnings<'_> {
    fn emit(&self, event: Event) {
        if event.kind == EventKind::Warning {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(event.message.clone());
        }
        self.sink.emit(event);
    }
}

/// Tells again what a step of this stage warned of on the machine that it ran on.
pub(crate) fn tell(texts: &[String], stage: &str, sink: &dyn Sink) {
    for text in texts {
        sink.emit(Event {
            stage: stage.to_owned(),
            ..Event::warning(text)
        });
    }
}
