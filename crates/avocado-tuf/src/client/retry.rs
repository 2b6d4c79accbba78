use std::io::{self, Read};
use std::time::Duration;

use super::rate::{Metered, broken};
use super::{Error, Limits};
use crate::transport::{Transport, TransportError};

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Counts failures in a row and waits longer after each.
pub(crate) struct Retry<'a> {
    transport: &'a dyn Transport,
    limits: &'a Limits,
    failures: u32,
}

impl<'a> Retry<'a> {
    pub(crate) fn new(transport: &'a dyn Transport, limits: &'a Limits) -> Self {
        Retry {
            transport,
            limits,
            failures: 0,
        }
    }

    /// Waits before another attempt, or gives the error back if it should be the last one.
    pub(crate) fn after(&mut self, url: &str, source: TransportError) -> Result<(), Error> {
        self.failures += 1;
        if !source.is_temporary() || self.failures >= self.limits.attempts {
            let url = url.to_owned();
            return Err(Error::Fetch { url, source });
        }
        let factor = 1 << (self.failures - 1).min(16);
        let pause = self.limits.pause.saturating_mul(factor);
        self.transport.wait(pause.min(LONGEST_PAUSE));
        Ok(())
    }

    /// Something came: failures count from none again.
    pub(crate) fn progress(&mut self) {
        self.failures = 0;
    }
}

/// Fetches a whole file of at most `limit` bytes into memory.
pub(crate) fn fetch(
    transport: &dyn Transport,
    limits: &Limits,
    url: &str,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    let mut retry = Retry::new(transport, limits);
    loop {
        let error = match transport.get(url, None) {
            Ok(response) => {
                let too_long = || Error::TooLong {
                    url: url.to_owned(),
                    limit,
                };
                if response.length.is_some_and(|length| length > limit) {
                    return Err(too_long());
                }
                let mut bytes = Vec::new();
                let body = Metered::new(response.body, limits);
                let mut body = body.take(limit.saturating_add(1));
                match body.read_to_end(&mut bytes) {
                    Ok(n) if n as u64 > limit => return Err(too_long()),
                    Ok(n) if response.length.is_some_and(|length| length != n as u64) => {
                        ended_early()
                    }
                    Ok(_) => return Ok(bytes),
                    Err(e) => broken(e),
                }
            }
            Err(e) => e,
        };
        retry.after(url, error)?;
    }
}

pub(crate) fn ended_early() -> TransportError {
    TransportError::Connection(Box::new(io::Error::from(io::ErrorKind::UnexpectedEof)))
}
