//! What the supervisor tells whoever started it: events, then whether the VM is up. After that
//! nobody listens, and only the log is left.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use avocado_events::{Event, Kind, Sink};
use serde::Serialize;

use super::log::Log;
use super::wire::Verdict;

pub(crate) struct Report {
    pipe: Mutex<Option<File>>,
    log: Log,
}

impl Report {
    pub(crate) fn new(pipe: File, log: Log) -> Self {
        Report {
            pipe: Mutex::new(Some(pipe)),
            log,
        }
    }

    /// Closes with the last line.
    pub(crate) fn close(&self, verdict: &Verdict) {
        self.write(verdict);
        *self.pipe.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn write(&self, line: &impl Serialize) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &mut *pipe
            && let Ok(mut line) = serde_json::to_vec(line)
        {
            line.push(b'\n');
            // Whoever started it may be gone; the VM stays.
            let _ = file.write_all(&line);
        }
    }
}

impl Sink for Report {
    fn emit(&self, event: Event) {
        match event.kind {
            Kind::Warning => self.log.line(&format!("warning: {}", event.message)),
            Kind::Info => self.log.line(&event.message),
            Kind::Step | Kind::Output => {}
        }
        self.write(&event);
    }
}
