//! How bytes come from a repository.

use std::io::Read;
use std::time::Duration;

/// Why a request got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The server says that there is no such file, or that it shows none (404, 403).
    #[error("there is no such file (status {0})")]
    Missing(u16),
    /// The server cannot continue at the offset asked for (416).
    #[error("the server cannot continue there")]
    Range,
    /// Any other status.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// No connection, or it broke, or nothing came in time.
    #[error("the connection failed")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server sent, but less than has to come.
    #[error("the server sends too slowly")]
    Slow(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Somebody asked for the work to stop.
    #[error("it was cancelled")]
    Cancelled,
    /// The request itself cannot work: a malformed URL, a certificate that does not
    /// fit, a redirect that is not followed.
    #[error("the request cannot be made")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl TransportError {
    /// Whether the same request may well work a little later.
    pub fn is_temporary(&self) -> bool {
        match self {
            TransportError::Connection(_) | TransportError::Slow(_) => true,
            TransportError::Status(status) => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }
}

/// Continue a file whose first bytes are there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// How many bytes are there; more than 0.
    pub offset: u64,
    /// Names the state of the file that they are from; the server then sends the whole file if it
    /// has changed since.
    pub validator: Option<String>,
}

/// The answer to a request.
pub struct Response {
    /// Where in the file the body starts: 0, or the offset that was asked for.
    pub offset: u64,
    /// How many bytes the body should have, where the server said it.
    pub length: Option<u64>,
    /// Names this state of the file, for [`Resume`].
    pub validator: Option<String>,
    /// The bytes.
    pub body: Box<dyn Read + Send>,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("offset", &self.offset)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Fetches files by URL. One request per call: repeating is for the caller.
pub trait Transport: Send + Sync {
    /// Fetches `url`, from the beginning or, if asked and possible, from further on.
    fn get(&self, url: &str, resume: Option<&Resume>) -> Result<Response, TransportError>;

    /// Lets time go by before another attempt; less of it when nobody wants one any more.
    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
