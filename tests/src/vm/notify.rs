//! Plays the desktop application: listens for hints, and confirms each.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::HarnessError;
use crate::error::file;
use crate::wait;

/// Hints that arrived, in their order. The listener stays as long as the process: it costs a
/// thread that sleeps.
#[derive(Debug, Clone)]
pub struct NotifyHints(Arc<Mutex<Vec<Value>>>);

impl NotifyHints {
    /// Listens on `socket`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn listen(socket: &Path) -> Result<Self, HarnessError> {
        let listener = UnixListener::bind(socket).map_err(file("listen on", socket))?;
        let hints = NotifyHints(Arc::default());
        let heard = hints.0.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut line = String::new();
                let mut reader = BufReader::new(&stream);
                if reader.read_line(&mut line).is_ok_and(|n| n > 0)
                    && let Ok(hint) = serde_json::from_str(&line)
                {
                    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                    heard.push(hint);
                    let _ = (&stream).write_all(b"{\"result\":null,\"id\":1}\n");
                }
            }
        });
        Ok(hints)
    }

    /// All so far.
    pub fn all(&self) -> Vec<Value> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }

    /// How many of one method arrived.
    pub fn count(&self, method: &str) -> usize {
        let all = self.all();
        all.iter().filter(|hint| hint["method"] == method).count()
    }

    /// Waits until more than `before` of one method arrived.
    ///
    /// # Errors
    /// They do not within `limit`.
    pub fn wait_for(
        &self,
        method: &str,
        before: usize,
        limit: Duration,
    ) -> Result<(), HarnessError> {
        wait::until(
            &format!("the hint {method}"),
            limit,
            || Ok((self.count(method) > before).then_some(())),
            || format!("\n{:?}", self.all()),
        )
    }
}
