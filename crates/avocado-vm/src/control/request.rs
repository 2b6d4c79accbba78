//! A request to the supervisor.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::dir::{StateDir, StateFile};
use crate::supervisor::SupervisorError;
use crate::supervisor::protocol::{SupervisorRequest, SupervisorResponse};

/// How long a supervisor may take to say how it is. It does nothing that takes long by itself, so
/// one that takes longer hangs.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(4);

/// For `map_err`: what could not be put into JSON.
pub(super) fn encode(what: &'static str) -> impl FnOnce(serde_json::Error) -> SupervisorError {
    move |source| SupervisorError::Encode { what, source }
}

/// A request to a supervisor that answers: that one hangs is found out within [`ANSWER_LIMIT`],
/// however long the request itself may take.
pub(super) fn ask(
    dir: &StateDir,
    request: &SupervisorRequest,
    limit: Duration,
) -> Result<Value, SupervisorError> {
    match send_request(dir, &SupervisorRequest::Status {}, ANSWER_LIMIT) {
        Err(error @ SupervisorError::NoAnswer(_)) => Err(error),
        _ => send_request(dir, request, limit),
    }
}

/// A connection to a socket. Where too many wait already the system would let us wait without a
/// limit, so another thread does.
fn connect_within(path: PathBuf, limit: Duration) -> io::Result<UnixStream> {
    let (sender, connected) = mpsc::channel();
    std::thread::Builder::new()
        .name("connect".to_owned())
        .spawn(move || sender.send(UnixStream::connect(path)))?;
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    connected.recv_timeout(limit).map_err(late)?
}

/// One request, one answer, within `limit`.
pub(super) fn send_request(
    dir: &StateDir,
    request: &SupervisorRequest,
    limit: Duration,
) -> Result<Value, SupervisorError> {
    exchange(&mut connect(dir)?, request, limit)
}

/// A connection to the supervisor.
pub(super) fn connect(dir: &StateDir) -> Result<UnixStream, SupervisorError> {
    let connected = connect_within(dir.file(StateFile::Supervisor), ANSWER_LIMIT);
    connected.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => SupervisorError::NotRunning,
        _ => SupervisorError::NoAnswer(error),
    })
}

/// One request over a connection, one answer.
pub(super) fn exchange(
    stream: &mut UnixStream,
    request: &SupervisorRequest,
    limit: Duration,
) -> Result<Value, SupervisorError> {
    let mut line = serde_json::to_vec(request).map_err(encode("the request"))?;
    line.push(b'\n');
    let mut answer = String::new();
    let mut exchange = || {
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(&line)?;
        BufReader::new(&*stream).read_line(&mut answer)
    };
    match exchange() {
        // It ended in this moment.
        Ok(0) => return Err(SupervisorError::NotRunning),
        Ok(_) => {}
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ) =>
        {
            return Err(SupervisorError::NotRunning);
        }
        Err(error) => return Err(SupervisorError::NoAnswer(error)),
    }
    match serde_json::from_str(&answer) {
        Ok(SupervisorResponse::Result(value)) => Ok(value),
        Ok(SupervisorResponse::Error(failure)) => Err(SupervisorError::Refused(failure)),
        Err(source) => Err(SupervisorError::Protocol {
            what: "the answer of the supervisor",
            source,
        }),
    }
}
