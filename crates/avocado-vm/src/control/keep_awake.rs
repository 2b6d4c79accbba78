//! Keeping the guest awake, by a connection to its supervisor.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::COMMAND_LIMIT;
use super::request::{connect, exchange};
use crate::dir::StateDir;
use crate::supervisor::SupervisorError;
use crate::supervisor::protocol::SupervisorRequest;

/// Wakes the guest, and keeps it awake until the value is dropped.
///
/// # Errors
/// There is no supervisor, or the guest could not be woken.
pub fn keep_awake(dir: &StateDir) -> Result<KeepAwake, SupervisorError> {
    let mut stream = connect(dir)?;
    exchange(&mut stream, &SupervisorRequest::KeepAwake {}, COMMAND_LIMIT)?;
    Ok(KeepAwake(stream))
}

/// A guest that is kept awake.
#[derive(Debug)]
pub struct KeepAwake(UnixStream);

impl KeepAwake {
    /// Returns after `limit` with true, or before with false: the supervisor ended, and keeps
    /// nothing awake any more. Without a limit it waits for that.
    ///
    /// # Errors
    /// The connection to the supervisor cannot be used.
    pub fn lasts(&self, limit: Option<Duration>) -> Result<bool, SupervisorError> {
        let start = Instant::now();
        let mut stream = &self.0;
        loop {
            let left = limit.map(|limit| limit.saturating_sub(start.elapsed()));
            if left == Some(Duration::ZERO) {
                return Ok(true);
            }
            let read = stream
                .set_read_timeout(left)
                .and_then(|()| stream.read(&mut [0; 64]));
            match read {
                Ok(0) => return Ok(false),
                // It has nothing to say by itself.
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset => return Ok(false),
                    _ => return Err(SupervisorError::NoAnswer(error)),
                },
            }
        }
    }
}
