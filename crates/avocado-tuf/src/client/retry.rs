use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::rate::{MeteredBody, broken};
use super::{ClientLimits, TufError};
use avocado_http::{Transport, TransportError, within_deadline};

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The longest pause that a server can ask for.
const LONGEST_WISH: Duration = Duration::from_secs(60);

/// Counts failures in a row, waits longer after each, and knows when it is enough.
pub(crate) struct RetryCounter<'a> {
    transport: &'a dyn Transport,
    limits: &'a ClientLimits,
    failures: u32,
    /// When this began, or something came.
    since: Instant,
}

impl<'a> RetryCounter<'a> {
    pub(crate) fn new(transport: &'a dyn Transport, limits: &'a ClientLimits) -> Self {
        RetryCounter {
            transport,
            limits,
            failures: 0,
            since: Instant::now(),
        }
    }

    /// When the present attempt has to have brought something.
    pub(crate) fn deadline(&self) -> Instant {
        self.since + self.limits.patience()
    }

    /// Waits before another attempt, or gives the error back if it should be the last one.
    pub(crate) fn after(&mut self, url: &str, source: TransportError) -> Result<(), TufError> {
        self.failures += 1;
        let factor = 1 << (self.failures - 1).min(16);
        let pause = self.limits.pause.saturating_mul(factor).min(LONGEST_PAUSE);
        let wish = source.retry_after().unwrap_or_default().min(LONGEST_WISH);
        let pause = pause.max(wish);
        // Connecting is not held by the deadline, so there has to be time for it.
        let next = Instant::now() + pause + self.limits.connect.saturating_mul(2);
        if !source.is_temporary() || self.failures >= self.limits.attempts || next > self.deadline()
        {
            let url = url.to_owned();
            return Err(TufError::Fetch { url, source });
        }
        self.transport.wait(pause);
        Ok(())
    }

    /// Something came: failures count from none again.
    pub(crate) fn progress(&mut self) {
        self.failures = 0;
        self.since = Instant::now();
    }
}

/// Fetches a whole file of at most `limit` bytes into memory.
pub(crate) fn fetch(
    transport: &dyn Transport,
    limits: &ClientLimits,
    url: &str,
    limit: u64,
) -> Result<Vec<u8>, TufError> {
    let mut retry = RetryCounter::new(transport, limits);
    loop {
        let deadline = retry.deadline();
        let error = match within_deadline(deadline, || transport.get(url, None)) {
            Ok(response) => {
                let too_long = || TufError::TooLong {
                    url: url.to_owned(),
                    limit,
                };
                if response.length.is_some_and(|length| length > limit) {
                    return Err(too_long());
                }
                let body = MeteredBody::new(response.body, limits, deadline);
                match read_all(body.take(limit.saturating_add(1))) {
                    Ok(bytes) if bytes.len() as u64 > limit => return Err(too_long()),
                    Ok(bytes) if response.length.is_some_and(|n| n != bytes.len() as u64) => {
                        ended_early()
                    }
                    Ok(bytes) => return Ok(bytes),
                    Err(e) => broken(e),
                }
            }
            Err(e) => e,
        };
        retry.after(url, error)?;
    }
}

/// Everything that comes, in little more memory than it takes.
fn read_all(mut body: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(n) => {
                if bytes.capacity() - bytes.len() < n {
                    bytes.reserve_exact(n.max(bytes.len() / 8));
                }
                bytes.extend_from_slice(buffer.get(..n).unwrap_or_default());
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

pub(crate) fn ended_early() -> TransportError {
    TransportError::Connection(Box::new(io::Error::from(io::ErrorKind::UnexpectedEof)))
}
