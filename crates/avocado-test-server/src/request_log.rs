//! What was asked for and how far its answer got.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many requests are remembered; older ones are forgotten.
const REMEMBERED: usize = 10_000;

/// How the answer to a [`LoggedRequest`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoggedOutcome {
    /// On its way.
    Sending,
    /// Held back by [`Fault::Stall`](crate::Fault::Stall).
    Stalled,
    /// Handed completely to the connection.
    Complete,
    /// Ended early: the client went away, a fault cut it, or the file could not be read.
    Broken,
}

/// One request, and how far its answer got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    /// Counts up from 0 over the server's life.
    pub number: u64,
    /// Who asks.
    pub client: SocketAddr,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The decoded path, without the query.
    pub path: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// Whether the request carried an `Authorization` header (right or wrong).
    pub authorization: bool,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the body that were handed to the connection.
    pub sent: u64,
    /// Bytes that the body of the answer has.
    pub total: u64,
    /// How the answer stands.
    pub outcome: LoggedOutcome,
}

/// The newest requests, in the order in which they were answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestLog {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<LoggedRequest>,
    next: u64,
}

impl RequestLog {
    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked under the lock left a valid list: every change is one assignment.
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `request`, whose number is replaced by the next one, which is returned.
    pub(crate) fn add(&self, mut request: LoggedRequest) -> u64 {
        let mut state = self.state();
        let number = state.next;
        request.number = number;
        state.next += 1;
        if state.requests.len() == REMEMBERED {
            state.requests.pop_front();
        }
        state.requests.push_back(request);
        drop(state);
        self.shared.changed.notify_all();
        number
    }

    /// The handle to the request `number`.
    pub(crate) fn entry(&self, number: u64) -> LogEntry {
        LogEntry {
            log: self.clone(),
            number,
        }
    }

    pub(crate) fn requests(&self) -> Vec<LoggedRequest> {
        self.state().requests.iter().cloned().collect()
    }

    pub(crate) fn wait(
        &self,
        limit: Duration,
        mut until: impl FnMut(&[LoggedRequest]) -> bool,
    ) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.state();
        loop {
            if until(state.requests.make_contiguous()) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// One request of a [`RequestLog`].
pub(crate) struct LogEntry {
    log: RequestLog,
    number: u64,
}

impl LogEntry {
    /// Changes the request, unless it was forgotten.
    pub(crate) fn update(&self, change: impl FnOnce(&mut LoggedRequest)) {
        let mut state = self.log.state();
        let requests = state.requests.iter_mut().rev();
        let Some(request) = requests
            .into_iter()
            .find(|request| request.number == self.number)
        else {
            return;
        };
        change(request);
        drop(state);
        self.log.shared.changed.notify_all();
    }
}
