//! Requests that last for as long as their connection to the supervisor: to keep the guest awake, to
//! forward its ports.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::COMMAND_LIMIT;
use super::request::{connect, exchange};
use crate::dir::StateDir;
use crate::status::VmForward;
use crate::supervisor::SupervisorError;
use crate::supervisor::protocol::{SupervisorRequest, WantedForward};

/// Wakes the guest, and keeps it awake until the value is dropped.
///
/// # Errors
/// There is no supervisor, or the guest could not be woken.
pub fn keep_awake(dir: &StateDir) -> Result<HeldRequest, SupervisorError> {
    let mut stream = connect(dir)?;
    exchange(&mut stream, &SupervisorRequest::KeepAwake {}, COMMAND_LIMIT)?;
    Ok(HeldRequest(stream))
}

/// Forwards ports of the guest until the value is dropped: all of them, or none.
///
/// # Errors
/// There is no supervisor, or it cannot listen at one of the ports.
pub fn forward(
    dir: &StateDir,
    ports: Vec<WantedForward>,
) -> Result<(Vec<VmForward>, HeldRequest), SupervisorError> {
    let mut stream = connect(dir)?;
    let request = SupervisorRequest::Forward { ports };
    let answer = exchange(&mut stream, &request, COMMAND_LIMIT)?;
    let forwards = serde_json::from_value(answer).map_err(|source| SupervisorError::Protocol {
        what: "the answer of the supervisor",
        source,
    })?;
    Ok((forwards, HeldRequest(stream)))
}

/// What a supervisor does until this is dropped.
#[derive(Debug)]
pub struct HeldRequest(UnixStream);

impl HeldRequest {
    /// Returns after `limit` with true, or before with false: the supervisor ended, and does it
    /// no more. Without a limit it waits for that.
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
