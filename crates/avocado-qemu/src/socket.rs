//! Connecting to the sockets that QEMU serves.

use std::path::Path;

use crate::error::QemuError;

#[cfg(unix)]
pub(crate) type Stream = tokio::net::UnixStream;

/// Hosts without Unix sockets have no machines either; nothing ever makes one of these.
#[cfg(not(unix))]
pub(crate) type Stream = tokio::io::DuplexStream;

/// A connection, and the id of the process behind it where the system tells.
#[cfg(unix)]
pub(crate) async fn connect(socket: &Path) -> Result<(Stream, Option<u32>), QemuError> {
    let stream = Stream::connect(socket)
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
