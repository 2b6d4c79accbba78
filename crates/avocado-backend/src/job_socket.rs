//! How a job is talked to that has the standard streams of this program: at a socket in a directory
//! that its container sees.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

/// Its name in the directory.
const SOCKET: &str = "socket";
/// How often the parent looks whether the container is there yet, or will never be.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Where one job calls. It is gone with this.
pub(crate) struct JobSocket {
    listener: UnixListener,
    directory: PathBuf,
}

impl JobSocket {
    /// Listens in `directory`, which is made anew, for this user alone: one that was killed may have
    /// left it.
    pub(crate) fn listen_in(directory: PathBuf) -> io::Result<Self> {
        avocado_fs::remove_tree(&directory).map_err(|error| error.source)?;
        DirBuilder::new().mode(0o700).create(&directory)?;
        let opened = rustix::fs::open(
            &directory,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let listener = UnixListener::bind(short_path(&opened))?;
        listener.set_nonblocking(true)?;
        Ok(JobSocket {
            listener,
            directory,
        })
    }

    /// What the container is to see.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the socket is for who sees that directory at `place`.
    pub(crate) fn seen_at(place: &Path) -> PathBuf {
        place.join(SOCKET)
    }

    /// Waits for the call. There is none where `child`, which makes the container, ends first.
    pub(crate) fn accept(
        &self,
        child: &mut Child,
        is_cancelled: impl Fn() -> bool,
    ) -> io::Result<Option<UnixStream>> {
        let accept = || match self.listener.accept() {
            Ok((stream, _)) => stream.set_nonblocking(false).map(|()| Some(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        };
        loop {
            // Asked first: what has called and ended meanwhile may have left a result.
            let has_ended = child.try_wait()?.is_some();
            let stream = accept()?;
            if stream.is_some() || has_ended || is_cancelled() {
                return Ok(stream);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl Drop for JobSocket {
    fn drop(&mut self) {
        // What is left is removed by the next one.
        let _ = avocado_fs::remove_tree(&self.directory);
    }
}

/// A path of a socket has no more than 107 bytes, and that of a project may have.
fn short_path(directory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::Command;

    use super::*;

    #[test]
    fn a_job_calls_or_its_container_was_never_there() {
        let place = tempfile::tempdir().unwrap();
        let long = place.path().join("d".repeat(200));
        drop(JobSocket::listen_in(long.clone()).unwrap());
        assert!(!long.exists());
        std::fs::create_dir(&long).unwrap();
        std::fs::write(long.join("left"), "").unwrap();
        let socket = JobSocket::listen_in(long.clone()).unwrap();
        assert!(!long.join("left").exists());

        let mut never = Command::new("true").spawn().unwrap();
        assert!(socket.accept(&mut never, || false).unwrap().is_none());

        let mut lasting = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        assert!(socket.accept(&mut lasting, || true).unwrap().is_none());
        let directory = std::fs::File::open(socket.directory()).unwrap();
        let mut job = UnixStream::connect(short_path(&directory.into())).unwrap();
        let mut parent = socket.accept(&mut lasting, || false).unwrap().unwrap();
        parent.write_all(b"work\n").unwrap();
        drop(parent);
        let mut heard = String::new();
        job.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "work\n");
        lasting.kill().unwrap();
        lasting.wait().unwrap();
    }
}
