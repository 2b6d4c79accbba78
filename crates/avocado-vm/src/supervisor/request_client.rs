//! Who asks for something over `supervisor.sock`, and whether it is still there.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The connection of a client; a cloneable handle.
#[derive(Debug, Clone)]
pub(crate) struct RequestClient(Arc<OwnedFd>);

impl RequestClient {
    pub(crate) fn new(connection: &impl AsFd) -> std::io::Result<Self> {
        let copy = connection.as_fd().try_clone_to_owned()?;
        Ok(RequestClient(Arc::new(copy)))
    }

    /// Whether it has closed the connection. One that only says no more still waits for its answer.
    pub(crate) fn has_left(&self) -> bool {
        let mut asked = [PollFd::new(&*self.0, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let answered = poll(&mut asked, Some(&now));
        let [asked] = asked;
        answered.is_ok() && asked.revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn who_closes_has_left_and_who_is_done_talking_has_not() {
        let (theirs, ours) = UnixStream::pair().unwrap();
        let client = RequestClient::new(&ours).unwrap();
        assert!(!client.has_left());
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(!client.has_left());
        drop(theirs);
        assert!(client.has_left());
    }
}
