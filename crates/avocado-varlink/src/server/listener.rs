use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

/// A socket that clients connect to.
#[derive(Debug)]
pub struct Listener {
    pub(super) fd: OwnedFd,
    /// The socket's file, where it is ours to remove.
    path: Option<PathBuf>,
}

/// A socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// A running service listens there.
    #[error("another service already listens on {0}")]
    InUse(PathBuf),
    /// There is something else than a socket.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// The kernel refuses.
    #[error("cannot listen on {path}")]
    System {
        /// The socket.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

impl Listener {
    /// Listens on `path`, which gets the permissions `mode`. A socket that a dead service left
    /// behind is replaced. The file is removed when the listener is dropped.
    ///
    /// # Errors
    /// When a living service listens there, something else is there, or the kernel refuses.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, ListenError> {
        let system = |errno: Errno| ListenError::System {
            path: path.to_owned(),
            source: errno.into(),
        };
        let address = SocketAddrUnix::new(path).map_err(system)?;
        match std::fs::symlink_metadata(path) {
            Ok(found) if !is_socket(&found) => return Err(ListenError::NotASocket(path.into())),
            Ok(_) => {
                let probe = stream().map_err(system)?;
                match connect(&probe, &address) {
                    Err(Errno::CONNREFUSED) => {
                        rustix::fs::unlink(path)
                            .or_else(ignore_missing)
                            .map_err(system)?;
                    }
                    Ok(()) | Err(Errno::AGAIN) => return Err(ListenError::InUse(path.into())),
                    Err(errno) => return Err(system(errno)),
                }
            }
            Err(_) => {}
        }
        let fd = stream().map_err(system)?;
        let mode = Mode::from_raw_mode(mode);
        // Before binding, so that there is no moment with wider permissions; and after, because
        // the umask narrows what binding applies.
        rustix::fs::fchmod(&fd, mode).map_err(system)?;
        bind(&fd, &address).map_err(|errno| match errno {
            Errno::ADDRINUSE => ListenError::InUse(path.into()),
            errno => system(errno),
        })?;
        let listener = Listener {
            fd,
            path: Some(path.to_owned()),
        };
        rustix::fs::chmod(path, mode).map_err(system)?;
        listen(&listener.fd, 4096).map_err(system)?;
        Ok(listener)
    }

    /// Listens on a socket that another process made, and keeps it.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Listener { fd, path: None }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn stream() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn is_socket(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_socket()
}

fn ignore_missing(errno: Errno) -> rustix::io::Result<()> {
    match errno {
        Errno::NOENT => Ok(()),
        errno => Err(errno),
    }
}
