use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};

use super::reply_error::ReplyError;

/// What a running call tells the reactor about its connection.
pub(super) enum ReactorMessage {
    /// The handler has returned.
    Finished {
        /// Its connection.
        id: u64,
        /// What it occupied.
        lane: Option<&'static str>,
    },
    /// The socket does not take more at the moment.
    Blocked(u64),
}

/// Where running calls leave messages for the reactor.
pub(super) struct ReactorInbox {
    pub(super) wake: OwnedFd,
    messages: Mutex<Vec<ReactorMessage>>,
}

impl ReactorInbox {
    pub(super) fn new() -> rustix::io::Result<Self> {
        Ok(ReactorInbox {
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            messages: Mutex::new(Vec::new()),
        })
    }

    pub(super) fn post(&self, note: ReactorMessage) {
        lock(&self.messages).push(note);
        // Fails only when the counter is full, and then the reactor is awake already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    pub(super) fn take(&self) -> Vec<ReactorMessage> {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        std::mem::take(&mut *lock(&self.messages))
    }
}

/// The way out to one client. Shared by the reactor and the call that runs.
pub(super) struct ReplyWriter {
    pub(super) id: u64,
    pub(super) fd: OwnedFd,
    inbox: Arc<ReactorInbox>,
    state: Mutex<PendingOutput>,
    cancel: Mutex<Option<CancelAction>>,
}

/// What stops the call that runs.
struct CancelAction {
    /// Also when the client is gone, and not only when the server stops.
    with_client: bool,
    run: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct PendingOutput {
    /// What the socket has not taken yet begins at `start`.
    bytes: Vec<u8>,
    start: usize,
    /// The client does not read any more.
    closed: bool,
    /// A call was dropped without an answer.
    unanswered: bool,
}

impl ReplyWriter {
    pub(super) fn new(id: u64, fd: OwnedFd, inbox: Arc<ReactorInbox>) -> Self {
        ReplyWriter {
            id,
            fd,
            inbox,
            state: Mutex::new(PendingOutput::default()),
            cancel: Mutex::new(None),
        }
    }

    /// What to do when the client does not wait any more for the call that runs.
    pub(super) fn on_cancel(&self, with_client: bool, run: Box<dyn FnOnce() + Send>) {
        *lock(&self.cancel) = Some(CancelAction { with_client, run });
        // It may have happened before.
        if lock(&self.state).closed {
            self.cancel(false);
        }
    }

    /// Stops the call that runs, if it can be stopped.
    pub(super) fn cancel(&self, stopping: bool) {
        let wanted = |cancel: &mut CancelAction| stopping || cancel.with_client;
        let cancel = lock(&self.cancel).take_if(wanted);
        // Not under the lock: it is the service's code.
        if let Some(cancel) = cancel {
            (cancel.run)();
        }
    }

    /// The call that could be stopped is over.
    pub(super) fn forget_cancel(&self) {
        *lock(&self.cancel) = None;
    }

    /// Sends a message, or keeps what the socket does not take now. With a `limit`, refuses when
    /// more than that many bytes are kept already.
    pub(super) fn send(&self, message: &[u8], limit: Option<usize>) -> Result<(), ReplyError> {
        let mut state = lock(&self.state);
        let pending = state.bytes.len() - state.start;
        if !state.closed && limit.is_some_and(|limit| pending > limit) {
            return Err(ReplyError::Busy);
        }
        if !state.closed {
            state.bytes.extend_from_slice(message);
            state.write(&self.fd);
        }
        if state.closed {
            return Err(ReplyError::Disconnected);
        }
        if pending == 0 && !state.bytes.is_empty() {
            self.inbox.post(ReactorMessage::Blocked(self.id));
        }
        Ok(())
    }

    /// Sends what was kept, as far as the socket takes it. True when nothing is left to send.
    pub(super) fn flush(&self) -> bool {
        let mut state = lock(&self.state);
        state.write(&self.fd);
        state.bytes.is_empty()
    }

    /// How many bytes are kept.
    pub(super) fn pending(&self) -> usize {
        lock(&self.state).bytes.capacity()
    }

    /// The client is gone: nothing more is sent.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.bytes = Vec::new();
        state.start = 0;
        drop(state);
        self.cancel(false);
    }

    /// Ends the connection even if a running call still holds it.
    pub(super) fn hang_up(&self) {
        self.close();
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Both);
    }

    pub(super) fn leave_unanswered(&self) {
        lock(&self.state).unanswered = true;
    }

    pub(super) fn is_unanswered(&self) -> bool {
        lock(&self.state).unanswered
    }
}

impl PendingOutput {
    fn write(&mut self, fd: &OwnedFd) {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        while let Some(rest) = self.bytes.get(self.start..).filter(|rest| !rest.is_empty()) {
            match rustix::net::send(fd, rest, flags) {
                Ok(n) => self.start += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // What is gone need not be moved along for ever.
                    if self.start > self.bytes.len() / 2 {
                        self.bytes.drain(..self.start);
                        self.start = 0;
                    }
                    return;
                }
                Err(_) => {
                    self.closed = true;
                    break;
                }
            }
        }
        self.bytes = Vec::new();
        self.start = 0;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded values are whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
