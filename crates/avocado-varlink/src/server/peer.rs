use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

/// Who is at the other end of a connection, as the kernel knew it when the client connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// The process; unknown where it is outside of our process namespace.
    pub pid: Option<i32>,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl fmt::Display for PeerCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)?;
        match self.pid {
            Some(pid) => write!(f, ", pid {pid}"),
            None => f.write_str(", an invisible process"),
        }
    }
}

impl PeerCredentials {
    /// The peer of a connected socket. (rustix has this as well, but its process id cannot be 0,
    /// which is what the kernel says of processes that we cannot see.)
    #[allow(unsafe_code)]
    pub(super) fn of(socket: impl AsFd) -> Option<Self> {
        let mut found = libc::ucred {
            pid: 0,
            uid: 0,
            gid: 0,
        };
        let size = size_of::<libc::ucred>();
        let mut length = libc::socklen_t::try_from(size).ok()?;
        // SAFETY: the descriptor is open, because it is borrowed; the kernel writes at most
        // `length` bytes, which is the size of `found`, and any bytes are valid integers.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut found).cast(),
                &raw mut length,
            )
        };
        (result == 0 && usize::try_from(length) == Ok(size)).then_some(PeerCredentials {
            pid: (found.pid > 0).then_some(found.pid),
            uid: found.uid,
            gid: found.gid,
        })
    }
}
