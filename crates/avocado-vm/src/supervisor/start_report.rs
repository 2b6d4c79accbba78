//! What the supervisor tells the command that started it: events, then whether the VM is up. After
//! that no process listens, and only the log is left.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use avocado_events::{Event, EventKind, Sink};
use serde::Serialize;

use super::log::SupervisorLog;
use super::protocol::StartVerdict;

pub(crate) struct StartReport {
    pipe: Mutex<Option<File>>,
    log: SupervisorLog,
}

impl StartReport {
    pub(crate) fn new(pipe: File, log: SupervisorLog) -> Self {
        StartReport {
            pipe: Mutex::new(Some(pipe)),
            log,
        }
    }

    /// Closes with the last line.
    pub(crate) fn close(&self, verdict: &StartVerdict) {
        self.write(verdict);
        *self.pipe.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn write(&self, line: &impl Serialize) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &mut *pipe else {
            return;
        };
        match serde_json::to_vec(line) {
            Ok(mut line) => {
                line.push(b'\n');
                // The command that started the supervisor may have been killed; the VM stays.
                let _ = file.write_all(&line);
            }
            Err(error) => self
                .log
                .line(&format!("a line of the start report is lost: {error}")),
        }
    }
}

impl Sink for StartReport {
    fn emit(&self, event: Event) {
        match event.kind {
            EventKind::Warning => self.log.line(&format!("warning: {}", event.message)),
            EventKind::Info => self.log.line(&event.message),
            EventKind::Step | EventKind::Output => {}
        }
        self.write(&event);
    }
}
