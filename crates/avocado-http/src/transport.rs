//! How bytes come from a server.

use std::error::Error;
use std::io::Read;
use std::time::Duration;

/// Why a request got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The server says that there is no such file (404).
    #[error("there is no such file (status {0})")]
    Missing(u16),
    /// The server does not give the file to this client (403). Some stores say this of files that are
    /// not there, to whom may not list them.
    #[error("the server does not allow it (status {0}): no token, a wrong one, or no such file")]
    Forbidden(u16),
    /// The server is busy, and said for how long (429 or 503 with `Retry-After`).
    #[error("the server is busy (status {status}) and asks to wait {} s", after.as_secs())]
    Busy {
        /// The status.
        status: u16,
        /// The time.
        after: Duration,
    },
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
    /// The caller asked for the work to stop.
    #[error("it was cancelled")]
    Cancelled,
    /// The request went through a proxy, and failed there or behind it.
    #[error("through the proxy {proxy}")]
    Proxied {
        /// The URL of the proxy, without user and password.
        proxy: String,
        /// How it failed.
        #[source]
        source: Box<TransportError>,
    },
    /// The request itself cannot work: a malformed URL, a certificate that does not
    /// fit, a redirect that is not followed.
    #[error("the request cannot be made")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl TransportError {
    /// Whether the same request may well work a little later.
    pub fn is_temporary(&self) -> bool {
        match self {
            TransportError::Connection(_)
            | TransportError::Slow(_)
            | TransportError::Busy { .. } => true,
            TransportError::Status(status) => matches!(status, 408 | 425 | 429 | 500..=599),
            TransportError::Proxied { source, .. } => source.is_temporary(),
            _ => false,
        }
    }

    /// Whether the file is not there, as far as this client can tell.
    pub fn is_absent(&self) -> bool {
        match self {
            TransportError::Missing(_) | TransportError::Forbidden(_) => true,
            TransportError::Proxied { source, .. } => source.is_absent(),
            _ => false,
        }
    }

    /// The innermost one among an error and those that caused it.
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TransportError> {
        let mut found = None;
        let mut next = Some(error);
        while let Some(error) = next {
            let boxed = error.downcast_ref::<Box<TransportError>>();
            let one = error.downcast_ref().or(boxed.map(|boxed| &**boxed));
            found = one.or(found);
            next = error.source();
        }
        found
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            TransportError::Busy { after, .. } => Some(*after),
            TransportError::Proxied { source, .. } => source.retry_after(),
            _ => None,
        }
    }
}

/// Continue a file whose first bytes are there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeFrom {
    /// How many bytes are there; more than 0.
    pub offset: u64,
    /// Names the state of the file that they are from; the server then sends the whole file if it
    /// has changed since.
    pub validator: Option<String>,
}

/// The answer to a request.
pub struct TransportResponse {
    /// Where in the file the body starts: 0, or the offset that was asked for.
    pub offset: u64,
    /// How many bytes the body should have, where the server said it.
    pub length: Option<u64>,
    /// Names this state of the file, for [`ResumeFrom`].
    pub validator: Option<String>,
    /// The bytes.
    pub body: Box<dyn Read + Send>,
}

impl std::fmt::Debug for TransportResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransportResponse")
            .field("offset", &self.offset)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Fetches files by URL. One request per call: repeating is for the caller.
pub trait Transport: Send + Sync {
    /// Fetches `url`, from the beginning or, if asked and possible, from further on.
    ///
    /// # Errors
    /// When no usable answer came; [`TransportError::is_temporary`] says whether another attempt
    /// may do better.
    fn get(
        &self,
        url: &str,
        resume: Option<&ResumeFrom>,
    ) -> Result<TransportResponse, TransportError>;

    /// Lets time go by before another attempt; less of it when the work was asked to stop.
    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
