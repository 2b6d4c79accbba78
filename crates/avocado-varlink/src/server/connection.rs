use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::peer::PeerCredentials;
use super::reply_writer::{ReactorInbox, ReplyWriter};
use crate::wire::MessageDecoder;

/// A client, as the reactor sees it.
pub(super) struct Connection {
    pub(super) replies: Arc<ReplyWriter>,
    pub(super) decoder: MessageDecoder,
    pub(super) peer: Option<PeerCredentials>,
    pub(super) call: CallState,
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
pub(super) enum CallState {
    /// There is none.
    Idle,
    /// It waits for its turn.
    Waiting,
    /// Its handler runs.
    Running,
}

impl Connection {
    pub(super) fn new(id: u64, fd: OwnedFd, inbox: Arc<ReactorInbox>, max_message: usize) -> Self {
        Connection {
            peer: PeerCredentials::of(&fd),
            replies: Arc::new(ReplyWriter::new(id, fd, inbox)),
            decoder: MessageDecoder::new(max_message),
            call: CallState::Idle,
            readable: false,
            eof: false,
            gone: false,
            closing: false,
            interest: EventFlags::IN,
        }
    }

    /// The user at the other end; none where the kernel does not say.
    pub(super) fn uid(&self) -> Option<u32> {
        self.peer.map(|peer| peer.uid)
    }

    /// How many bytes wait here, to be read or to be sent.
    pub(super) fn buffered(&self) -> usize {
        self.decoder.buffered() + self.replies.pending()
    }

    /// Reads once.
    pub(super) fn fill(&mut self, scratch: &mut [u8]) {
        // One read for each time that the kernel says so is fair to the others. It says so only
        // once when the client is gone: then everything is read.
        self.readable = self.gone;
        match rustix::io::read(&self.replies.fd, &mut *scratch) {
            Ok(0) => self.eof = true,
            Ok(n) => self.decoder.push(scratch.get(..n).unwrap_or_default()),
            Err(Errno::AGAIN) => self.readable = false,
            Err(Errno::INTR) => self.readable = true,
            Err(_) => self.eof = true,
        }
    }
}
