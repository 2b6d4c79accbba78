//! One question to docker in the guest. It is asked in HTTP/1.0: then an answer is what comes until
//! the connection is closed, in no frames.

use std::fmt;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::supervisor::shared_state::SharedState;

/// The longest answer that is read.
const LONGEST: usize = 8 << 20;

/// Why there is no answer that can be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DockerFailure {
    /// Nobody answers, as in a guest that has no docker, or whose docker ends.
    Silent(String),
    /// There is no such thing.
    NotFound,
    /// An answer that is none of docker's, or too much.
    Unusable(String),
}

impl fmt::Display for DockerFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DockerFailure::Silent(why) | DockerFailure::Unusable(why) => out.write_str(why),
            DockerFailure::NotFound => out.write_str("it does not know what it was asked for"),
        }
    }
}

impl From<io::Error> for DockerFailure {
    fn from(error: io::Error) -> Self {
        DockerFailure::Silent(error.to_string())
    }
}

/// An answer that comes bit by bit.
pub(super) struct DockerAnswer {
    stream: UnixStream,
    shared: SharedState,
}

impl DockerAnswer {
    pub(super) async fn ask(
        mut stream: UnixStream,
        path: &str,
        shared: &SharedState,
    ) -> io::Result<DockerAnswer> {
        let request = format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n");
        shared.note_own_traffic(request.len());
        stream.write_all(request.as_bytes()).await?;
        let shared = shared.clone();
        Ok(DockerAnswer { stream, shared })
    }

    /// The next bytes; none at the end. May be dropped at any time: nothing is lost.
    pub(super) async fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(64 << 10);
        let count = self.stream.read_buf(&mut bytes).await?;
        self.shared.note_own_traffic(count);
        Ok(bytes)
    }

    /// All of it, without its head.
    pub(super) async fn body(mut self) -> Result<Vec<u8>, DockerFailure> {
        let mut all = Vec::new();
        loop {
            let bytes = self.next().await?;
            if bytes.is_empty() {
                break;
            }
            all.extend(bytes);
            if all.len() > LONGEST {
                let text = format!("its answer is longer than {} MiB", LONGEST >> 20);
                return Err(DockerFailure::Unusable(text));
            }
        }
        check_status(&all)?;
        let end = all.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let end = end.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok(all.split_off(end + 4))
    }
}

/// Whether an answer begins as a good one does.
pub(super) fn check_status(answer: &[u8]) -> Result<(), DockerFailure> {
    let line = answer.split(|byte| *byte == b'\r').next();
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    let mut words = line.split_ascii_whitespace();
    let version = words.next();
    let status = words.next().filter(|_| {
        let version = version.unwrap_or_default();
        version.starts_with("HTTP/1.")
    });
    match (version, status) {
        (_, Some("200")) => Ok(()),
        (_, Some("404")) => Err(DockerFailure::NotFound),
        (None, _) => Err(DockerFailure::Silent("it does not answer".to_owned())),
        _ => {
            let line: String = line.chars().take(100).collect();
            Err(DockerFailure::Unusable(format!("it answers {line:?}")))
        }
    }
}
