use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::ClientLimits;
use avocado_http::{TransportError, within_deadline};

/// The server sends less than [`ClientLimits::min_rate`].
#[derive(Debug, thiserror::Error)]
#[error("less than {0} bytes came per second")]
struct TooSlow(u64);

/// A body that fails when it comes too slowly.
pub(super) struct MeteredBody<R> {
    body: R,
    pace: TransferRate,
    /// When there has to be progress, and how many bytes more make it.
    deadline: Instant,
    wanted: u64,
}

/// How many new bytes are progress: they make up for a failed attempt, and no deadline counts any
/// more. A server that breaks the connection after every few bytes runs out of attempts.
pub(super) const PROGRESS: u64 = 256 * 1024;

impl<R> MeteredBody<R> {
    pub(super) fn new(body: R, limits: &ClientLimits, deadline: Instant) -> Self {
        let pace = TransferRate {
            min_rate: limits.min_rate,
            window: limits.rate_window,
            bytes: 0,
            waited: Duration::ZERO,
        };
        MeteredBody {
            body,
            pace,
            deadline,
            wanted: PROGRESS,
        }
    }
}

impl<R: Read> Read for MeteredBody<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let before = Instant::now();
        let body = &mut self.body;
        let n = if self.wanted == 0 {
            body.read(buffer)?
        } else {
            within_deadline(self.deadline, || body.read(buffer))?
        };
        self.wanted = self.wanted.saturating_sub(n as u64);
        // The end is the end, however long it took to come.
        if n == 0 || self.pace.keeps(n as u64, before.elapsed()) {
            return Ok(n);
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            TooSlow(self.pace.min_rate),
        ))
    }
}

/// What came within the present window.
struct TransferRate {
    min_rate: u64,
    window: Duration,
    bytes: u64,
    waited: Duration,
}

impl TransferRate {
    /// Counts `bytes` for which the reader had to wait, and says whether it is still fast enough.
    fn keeps(&mut self, bytes: u64, waited: Duration) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        self.waited = self.waited.saturating_add(waited);
        if self.waited < self.window {
            return true;
        }
        let needed = u128::from(self.min_rate).saturating_mul(self.waited.as_nanos());
        let enough = u128::from(self.bytes) * 1_000_000_000 >= needed;
        self.bytes = 0;
        self.waited = Duration::ZERO;
        enough
    }
}

/// Why a body ended early.
pub(super) fn broken(error: io::Error) -> TransportError {
    if error.get_ref().is_some_and(|e| e.is::<TooSlow>()) {
        TransportError::Slow(Box::new(error))
    } else {
        TransportError::Connection(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits in milliseconds and the bytes that each brought.
    fn kept(min_rate: u64, reads: &[(u64, u64)]) -> Vec<bool> {
        let mut pace = TransferRate {
            min_rate,
            window: Duration::from_secs(10),
            bytes: 0,
            waited: Duration::ZERO,
        };
        reads
            .iter()
            .map(|(ms, bytes)| pace.keeps(*bytes, Duration::from_millis(*ms)))
            .collect()
    }

    #[test]
    fn the_average_over_a_window_counts() {
        // Exactly enough, and one byte less.
        assert_eq!(kept(100, &[(10_000, 1000)]), [true]);
        assert_eq!(kept(100, &[(10_000, 999)]), [false]);
        // Nothing is judged before a window has passed, and each window stands for itself.
        assert_eq!(kept(100, &[(9_999, 1), (1, 999)]), [true, true]);
        assert_eq!(
            kept(100, &[(5_000, 9_999_999), (5_000, 0), (10_000, 1)]),
            [true, true, false]
        );
        // A wait that is longer than the window needs more.
        assert_eq!(kept(100, &[(20_000, 1999)]), [false]);
        assert_eq!(kept(100, &[(20_000, 2000)]), [true]);
        // No minimum.
        assert_eq!(kept(0, &[(u64::MAX / 2, 0)]), [true]);
    }

    #[test]
    fn sums_do_not_overflow() {
        assert_eq!(
            kept(u64::MAX, &[(u64::MAX, u64::MAX), (u64::MAX, u64::MAX)]),
            [false, false]
        );
    }

    #[test]
    fn a_body_that_waits_too_long_for_too_little_fails() {
        struct Byte;
        impl Read for Byte {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer[0] = 1;
                Ok(1)
            }
        }
        let limits = ClientLimits {
            min_rate: u64::MAX,
            rate_window: Duration::ZERO,
            ..ClientLimits::default()
        };
        // With a window of nought every read is judged.
        let mut body = MeteredBody::new(Byte, &limits, Instant::now());
        let error = io::copy(&mut body, &mut io::sink()).unwrap_err();
        assert!(matches!(broken(error), TransportError::Slow(_)));
        let other = broken(io::Error::other("reset"));
        assert!(matches!(other, TransportError::Connection(_)));
    }
}
