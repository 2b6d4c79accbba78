use std::io::{self, Read};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use avocado_events::Cancel;
use ureq::Agent;

use crate::transport::TransportError;

/// How long a request to stop may go unseen.
const LOOK: Duration = Duration::from_millis(200);

/// A request to stop, and a thread that sees to it while the others wait for a server.
pub(crate) struct StopWatch {
    cancel: Cancel,
    /// The watch ends with it.
    _watch: Sender<()>,
}

impl StopWatch {
    /// Watches for a request to stop, and then closes all connections of `agents`.
    pub(crate) fn new(cancel: &Cancel, agents: Vec<Agent>) -> Self {
        let (watch, ended) = channel();
        let watched = cancel.clone();
        let watch_over = move || {
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if watched.is_cancelled() {
                    return agents.into_iter().for_each(Agent::shutdown);
                }
            }
        };
        // Without a thread, the time-outs end what waits.
        let _ = std::thread::Builder::new()
            .name("stop".into())
            .spawn(watch_over);
        StopWatch {
            cancel: cancel.clone(),
            _watch: watch,
        }
    }

    pub(crate) fn check(&self) -> Result<(), TransportError> {
        if self.cancel.is_cancelled() {
            return Err(TransportError::Cancelled);
        }
        Ok(())
    }

    pub(crate) fn wait(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.cancel.is_cancelled() {
            match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return,
                left => std::thread::sleep(left.min(LOOK)),
            }
        }
    }

    pub(crate) fn body(&self, inner: impl Read + Send + 'static) -> Box<dyn Read + Send> {
        let cancel = self.cancel.clone();
        Box::new(StoppableBody { inner, cancel })
    }
}

/// A body that ends with an error when it is asked to stop.
struct StoppableBody<R> {
    inner: R,
    cancel: Cancel,
}

impl<R: Read> Read for StoppableBody<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other(TransportError::Cancelled));
        }
        self.inner.read(buffer)
    }
}
