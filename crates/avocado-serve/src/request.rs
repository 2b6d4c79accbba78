//! What was asked for and how far its answer got.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Called when a request arrives, whenever more of its body was sent, and when it ended.
///
/// It runs on the server's only thread: it must not block.
pub type OnRequest = Arc<dyn Fn(&ServedRequest) + Send + Sync>;

/// How the answer to a [`ServedRequest`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestOutcome {
    /// On its way.
    Sending,
    /// Handed completely to the connection.
    Complete,
    /// Ended early: the client went away, or the file could not be read.
    Broken,
}

/// One request, and how far its answer got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedRequest {
    /// Counts up from 0 over the server's life.
    pub number: u64,
    /// Who asks.
    pub client: SocketAddr,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The decoded path, without the query; the beginning of a very long one. It holds what the
    /// client wants it to hold: escape it before a terminal sees it.
    pub path: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the body that were handed to the connection.
    pub sent: u64,
    /// Bytes that the body of the answer has.
    pub total: u64,
    /// How the answer stands.
    pub outcome: RequestOutcome,
}

impl ServedRequest {
    /// The line of a log about it, safe for a terminal, once its answer has ended.
    pub fn log_line(&self) -> Option<String> {
        let broken = match self.outcome {
            RequestOutcome::Sending => return None,
            RequestOutcome::Complete => "",
            RequestOutcome::Broken => " (broken off)",
        };
        Some(format!(
            "{} {} {} {} {} of {} bytes{broken}",
            self.client.ip(),
            self.status,
            avocado_text::escape(&self.method),
            avocado_text::escape(&self.path),
            self.sent,
            self.total,
        ))
    }
}

/// Numbers the requests of a server and tells its owner about them.
#[derive(Default)]
pub(crate) struct RequestReporter {
    next: AtomicU64,
    on_request: Option<OnRequest>,
}

impl RequestReporter {
    pub(crate) fn new(on_request: Option<OnRequest>) -> Self {
        RequestReporter {
            next: AtomicU64::new(0),
            on_request,
        }
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, request: &ServedRequest) {
        if let Some(on_request) = &self.on_request {
            on_request(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_it_ended_and_obeys_no_client() {
        let mut request = ServedRequest {
            number: 0,
            client: ([192, 0, 2, 1], 4711).into(),
            method: "GET".into(),
            path: "/a\u{1b}[2J".into(),
            range: None,
            status: 200,
            sent: 5,
            total: 9,
            outcome: RequestOutcome::Sending,
        };
        assert_eq!(request.log_line(), None);
        request.outcome = RequestOutcome::Broken;
        let line = "192.0.2.1 200 GET /a\\u{1b}[2J 5 of 9 bytes (broken off)";
        assert_eq!(request.log_line().as_deref(), Some(line));
        request.outcome = RequestOutcome::Complete;
        let line = "192.0.2.1 200 GET /a\\u{1b}[2J 5 of 9 bytes";
        assert_eq!(request.log_line().as_deref(), Some(line));
    }
}
