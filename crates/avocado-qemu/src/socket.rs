//! Connecting to Unix sockets, among them those that QEMU serves.

use std::io;
use std::path::Path;
#[cfg(unix)]
use std::time::Duration;

use crate::error::QemuError;

#[cfg(unix)]
pub(crate) type Stream = tokio::net::UnixStream;

/// Hosts without Unix sockets have no machines either; nothing ever makes one of these.
#[cfg(not(unix))]
pub(crate) type Stream = tokio::io::DuplexStream;

/// Nothing announces that a queue has room.
#[cfg(unix)]
const RETRY: Duration = Duration::from_millis(5);

/// A connection to a Unix socket. Where as many clients wait already as the listener lets wait,
/// this waits for room, without a limit of its own; it may be dropped at any time.
///
/// # Errors
/// What the system says, but for a full queue (`EAGAIN`): that says that somebody listens.
#[cfg(unix)]
pub async fn connect_when_room(socket: &Path) -> io::Result<tokio::net::UnixStream> {
    loop {
        match Stream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(RETRY).await;
            }
            connected => return connected,
        }
    }
}

/// Whether an error of a connect to a Unix socket says that nobody listens there: it is not there,
/// or nobody has it any more.
pub fn nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// A connection, and the id of the process behind it where the system tells. It waits for room as
/// [`connect_when_room`] does: the caller limits it.
#[cfg(unix)]
pub(crate) async fn connect(socket: &Path) -> Result<(Stream, Option<u32>), QemuError> {
    let stream = connect_when_room(socket)
        .await
        .map_err(|source| QemuError::Connect {
            socket: socket.to_owned(),
            source,
        })?;
    let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
    Ok((stream, peer.and_then(|pid| pid.try_into().ok())))
}

#[cfg(not(unix))]
pub(crate) async fn connect(_socket: &Path) -> Result<(Stream, Option<u32>), QemuError> {
    Err(QemuError::Unsupported {
        what: "talking to QEMU",
    })
}

/// Lets only our own user connect. QEMU leaves that to the umask.
#[cfg(unix)]
pub(crate) fn restrict_to_owner(socket: &Path) -> Result<(), QemuError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(|source| {
        QemuError::File {
            action: "protect",
            path: socket.to_owned(),
            source,
        }
    })
}

#[cfg(not(unix))]
pub(crate) fn restrict_to_owner(_socket: &Path) -> Result<(), QemuError> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use tokio::net::{UnixListener, UnixSocket};

    use super::*;

    #[tokio::test]
    async fn a_full_queue_is_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let socket = UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut waiting = Vec::new();
        let full = loop {
            match Stream::connect(&path).await {
                Ok(client) => waiting.push(client),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(!nobody_listens(&full));
        let mut connecting = Box::pin(connect_when_room(&path));
        tokio::select! {
            biased;
            done = &mut connecting => panic!("did not wait: {done:?}"),
            () = std::future::ready(()) => {}
        }
        for _ in &waiting {
            listener.accept().await.unwrap();
        }
        connecting.await.unwrap();
    }

    #[tokio::test]
    async fn that_nobody_listens_is_told_at_once() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let absent = connect_when_room(&path).await.unwrap_err();
        assert!(nobody_listens(&absent), "{absent}");
        drop(UnixListener::bind(&path).unwrap());
        let left = connect_when_room(&path).await.unwrap_err();
        assert!(nobody_listens(&left), "{left}");
    }
}
