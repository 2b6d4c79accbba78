//! The software TPM of a machine: a process of its own, `swtpm`, which QEMU talks to over a socket.
//!
//! It ends by itself when QEMU does, also where no process of ours sees that. The TPM's state stays
//! in its directory; while the machine's memory is in a file, what is volatile of it is there too.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::error::QemuError;
use crate::process::{self, KillOnDrop, log_tail};
use crate::socket;

/// How long it may take to listen, or to end.
const LIMIT: Duration = Duration::from_secs(10);
/// Nothing announces either.
const RETRY: Duration = Duration::from_millis(5);
/// `CMD_SHUTDOWN` of its control channel (swtpm_ioctls(3)).
const SHUTDOWN: [u8; 4] = 3u32.to_be_bytes();

/// A TPM 2.0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftwareTpm {
    /// The `swtpm` to run.
    pub binary: PathBuf,
    /// Where its state is; made if it is not there.
    pub directory: PathBuf,
}

/// Relative, because `swtpm` takes no commas in paths: it runs in its directory.
const SOCKET: &str = "swtpm-sock";

/// The `swtpm` in `directories` (those of PATH), if there is one.
pub fn find_swtpm(directories: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    avocado_fs::find_program("swtpm", directories)
}

impl SoftwareTpm {
    /// Where QEMU finds it.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }

    fn log(&self) -> PathBuf {
        self.directory.join("swtpm.log")
    }

    /// Starts it, and waits until it listens. It is killed with the result, unless that is kept.
    pub(crate) async fn start(&self) -> Result<KillOnDrop, QemuError> {
        create_private_directory(&self.directory).map_err(|source| QemuError::File {
            action: "make",
            path: self.directory.clone(),
            source,
        })?;
        self.end_orphan().await?;
        let arguments = [
            "socket",
            "--tpm2",
            "--terminate",
            "--tpmstate",
            "dir=.,mode=0600",
            "--ctrl",
            &format!("type=unixio,path={SOCKET},mode=0600"),
        ]
        .map(OsString::from);
        // Relative to where we are, not to where it runs.
        let binary = absolute(&self.binary).unwrap_or_else(|_| self.binary.clone());
        let process = process::spawn(&binary, &arguments, &self.log(), Some(&self.directory))?;
        let guard = KillOnDrop::new(&process);
        let listens = async {
            while socket::connect(&self.socket()).await.is_err() {
                sleep(RETRY).await;
            }
        };
        tokio::select! {
            biased;
            status = process.exited() => {
                Err(self.failure(format!("swtpm ended ({status}): {}", log_tail(&self.log()))))
            }
            listening = timeout(LIMIT, listens) => match listening {
                Ok(()) => Ok(guard),
                Err(_) => Err(self.failure(format!("swtpm does not listen on {SOCKET}"))),
            }
        }
    }

    /// Ends one whose QEMU never came, and waits for one whose QEMU has just ended: two would
    /// write the same state. Only where nobody listens there is none; those whom it does not
    /// accept fill its queue, and it lives all the same.
    async fn end_orphan(&self) -> Result<(), QemuError> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let held = || self.failure("another swtpm does not let go of it".to_owned());
            let connected = timeout_at(deadline, socket::connect(&self.socket())).await;
            let mut stream = match connected.map_err(|_| held())? {
                Ok((stream, _)) => stream,
                Err(QemuError::Connect { source, .. }) if socket::nobody_listens(&source) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            if Instant::now() > deadline {
                return Err(held());
            }
            // Whether it hears this or ends by itself: what counts is that it does not listen then.
            if stream.write_all(&SHUTDOWN).await.is_ok() {
                let _ = timeout(LIMIT, stream.read(&mut [0; 16])).await;
            }
            sleep(RETRY).await;
        }
    }

    fn failure(&self, description: String) -> QemuError {
        QemuError::Tpm {
            directory: self.directory.clone(),
            description,
        }
    }
}

/// Makes the directory, for our own user only.
fn create_private_directory(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    #[cfg(unix)]
    std::fs::set_permissions(
        directory,
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )?;
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use tokio::net::{UnixSocket, UnixStream};

    use super::*;

    #[tokio::test]
    async fn one_whose_queue_is_full_is_not_taken_for_one_that_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let tpm = SoftwareTpm {
            binary: PathBuf::new(),
            directory: place.path().to_owned(),
        };
        let socket = UnixSocket::new_stream().unwrap();
        socket.bind(tpm.socket()).unwrap();
        let listener = socket.listen(1).unwrap();
        // It stays full though they leave: they are not accepted.
        while UnixStream::connect(tpm.socket()).await.is_ok() {}
        let mut ending = Box::pin(tpm.end_orphan());
        tokio::select! {
            biased;
            done = &mut ending => panic!("did not wait: {done:?}"),
            () = std::future::ready(()) => {}
        }
        drop(listener);
        ending.await.unwrap();
    }
}
