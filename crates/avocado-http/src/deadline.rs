//! How long this thread waits for a server.
//!
//! The client of HTTP below us has a time-out for each read of a connection, and none for what many
//! reads come to: a body whose framing drips (a chunk's extension, the records of TLS), one byte
//! before each time-out, would never give a byte of content and never end. So each wait for a
//! connection, at its lowest layer, is held against a deadline of the thread that waits.

use std::cell::Cell;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does `work`, in which no wait for a server's bytes goes beyond `at`, nor beyond the deadline that
/// is in force already. Looking up a name and connecting have time-outs of their own.
pub fn within_deadline<T>(at: Instant, work: impl FnOnce() -> T) -> T {
    /// Puts the deadline back, whatever happens.
    struct Restore(Option<Instant>);

    impl Drop for Restore {
        fn drop(&mut self) {
            DEADLINE.set(self.0);
        }
    }

    let before = DEADLINE.get();
    let _restore = Restore(before);
    DEADLINE.set(Some(before.map_or(at, |before| before.min(at))));
    work()
}

/// A body of which each read has to bring something, or the end, within a time.
pub(crate) struct PunctualBody<R> {
    pub(crate) body: R,
    pub(crate) within: Duration,
}

impl<R: Read> Read for PunctualBody<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let body = &mut self.body;
        within_deadline(Instant::now() + self.within, || body.read(buffer))
    }
}

/// Makes connections that keep to the deadline.
#[derive(Debug)]
pub(crate) struct DeadlineConnector;

impl<In: Transport> Connector<In> for DeadlineConnector {
    type Out = PunctualConnection<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(PunctualConnection))
    }
}

#[derive(Debug)]
pub(crate) struct PunctualConnection<T>(T);

impl<T: Transport> Transport for PunctualConnection<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, sooner(timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.0.await_input(sooner(timeout))
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

/// The time-out, or what is left until the deadline.
fn sooner(timeout: NextTimeout) -> NextTimeout {
    let Some(deadline) = DEADLINE.get() else {
        return timeout;
    };
    let left = deadline.saturating_duration_since(Instant::now()).into();
    NextTimeout {
        after: timeout.after.min(left),
        ..timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_deadline_counts_and_ends_with_its_work() {
        let now = Instant::now();
        let [near, far] = [10, 20].map(|s| now + Duration::from_secs(s));
        assert_eq!(DEADLINE.get(), None);
        within_deadline(near, || {
            within_deadline(far, || assert_eq!(DEADLINE.get(), Some(near)));
            assert_eq!(DEADLINE.get(), Some(near));
        });
        within_deadline(far, || {
            within_deadline(near, || assert_eq!(DEADLINE.get(), Some(near)));
            assert_eq!(DEADLINE.get(), Some(far));
        });
        assert_eq!(DEADLINE.get(), None);
    }
}
