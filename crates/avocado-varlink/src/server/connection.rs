use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::outlet::{Hub, Outlet};
use super::peer::Peer;
use crate::wire::Decoder;

/// A client, as the reactor sees it.
pub(super) struct Connection {
    pub(super) outlet: Arc<Outlet>,
    pub(super) decoder: Decoder,
    pub(super) peer: Option<Peer>,
    pub(super) call: State,
    /// The socket may have bytes for us.
    pub(super) readable: bool,
    /// The client sends no more.
    pub(super) eof: bool,
    /// The client is gone.
    pub(super) gone: bool,
    /// To be closed as soon as everything is sent.
    pub(super) closing: bool,
    /// What the event queue watches for.
    pub(super) interest: EventFlags,
}

/// What has become of the call that a connection is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// There is none.
    Idle,
    /// It waits for its turn.
    Waiting,
    /// Its handler runs.
    Running,
}

impl Connection {
    pub(super) fn new(id: u64, fd: OwnedFd, hub: Arc<Hub>, max_message: usize) -> Self {
        Connection {
            peer: Peer::of(&fd),
            outlet: Arc::new(Outlet::new(id, fd, hub)),
            decoder: Decoder::new(max_message),
            call: State::Idle,
            readable: false,
            eof: false,
            gone: false,
            closing: false,
            interest: EventFlags::IN,
        }
    }

    /// Reads once.
    pub(super) fn fill(&mut self, scratch: &mut [u8]) {
        // One read for each time that the kernel says so is fair to the others. It says so only
        // once when the client is gone: then everything is read.
        self.readable = self.gone;
        match rustix::io::read(&self.outlet.fd, &mut *scratch) {
            Ok(0) => self.eof = true,
            Ok(n) => self.decoder.push(scratch.get(..n).unwrap_or_default()),
            Err(Errno::AGAIN) => self.readable = false,
            Err(Errno::INTR) => self.readable = true,
            Err(_) => self.eof = true,
        }
    }
}
