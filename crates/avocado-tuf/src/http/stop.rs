use std::io::{self, Read};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use avocado_events::Cancel;
use ureq::Agent;

use crate::transport::TransportError;

/// How long a request to stop may go unseen.
const LOOK: Duration = Duration::from_millis(200);

/// A request to stop, and who sees to it while everybody else waits for a server.
pub(super) struct Stop {
    cancel: Cancel,
    /// The watch ends with it.
    _watch: Sender<()>,
}

impl Stop {
    /// Watches for a request to stop, and then closes all connections of `agent`.
    pub(super) fn new(cancel: &Cancel, agent: &Agent) -> Self {
        let (watch, ended) = channel();
        let (watched, agent) = (cancel.clone(), agent.clone());
        let watch_over = move || {
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if watched.is_cancelled() {
                    return agent.shutdown();
                }
            }
        };
        // Without a thread, the time-outs end what waits.
        let _ = std::thread::Builder::new()
            .name("stop".into())
            .spawn(watch_over);
        Stop {
            cancel: cancel.clone(),
            _watch: watch,
        }
    }

    pub(super) fn check(&self) -> Result<(), TransportError> {
        match self.cancel.is_cancelled() {
            true => Err(TransportError::Cancelled),
            false => Ok(()),
        }
    }

    pub(super) fn wait(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.cancel.is_cancelled() {
            match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return,
                left => std::thread::sleep(left.min(LOOK)),
            }
        }
    }

    pub(super) fn body(&self, inner: impl Read + Send + 'static) -> Box<dyn Read + Send> {
        let cancel = self.cancel.clone();
        Box::new(Body { inner, cancel })
    }
}

/// A body that ends with an error when it is asked to stop.
struct Body<R> {
    inner: R,
    cancel: Cancel,
}

impl<R: Read> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.cancel.is_cancelled() {
            true => Err(io::Error::other(TransportError::Cancelled)),
            false => self.inner.read(buffer),
        }
    }
}
