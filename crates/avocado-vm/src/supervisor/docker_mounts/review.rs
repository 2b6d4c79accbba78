//! What becomes of a request that may name paths.

use serde_json::Value;

use super::super::http_message::{BodyFrame, error_answer};
use super::gate::HeldRequest;
use super::json::UnambiguousValue;
use super::places::{GuestPath, HostPlaces};
use crate::access::GUEST_DOCKER_SOCKET;

/// The outcome.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Review {
    /// These bytes go to the guest in its place.
    Pass {
        bytes: Vec<u8>,
        /// It names a path in the workspace.
        needs_workspace: bool,
    },
    /// This is the answer; the guest does not get it.
    Refuse(String),
}

/// Looks at every path that a request names. It asks the file system, which may take its time.
pub(crate) fn review(request: &HeldRequest, places: &HostPlaces) -> Review {
    let body = request.body();
    // As engines do, what comes after the first value is not looked at.
    let first = serde_json::Deserializer::from_slice(&body)
        .into_iter()
        .next();
    let mut value: Value = match first {
        Some(Ok(UnambiguousValue(value))) => value,
        Some(Err(error)) => {
            let why = format!("the body of the request is no JSON that can be looked at: {error}");
            return Review::Refuse(why);
        }
        // The engine knows what to say to that.
        None => Value::Null,
    };
    let mut needs_workspace = false;
    let mut change = |path: &str| -> Result<Option<String>, String> {
        Ok(match places.find(path).map_err(|why| why.to_string())? {
            GuestPath::Same => None,
            GuestPath::Socket => Some(GUEST_DOCKER_SOCKET.to_owned()),
            GuestPath::Workspace(place) => {
                needs_workspace = true;
                Some(place)
            }
        })
    };
    match request.kind.change_paths(&mut value, &mut change) {
        Err(why) => Review::Refuse(why),
        Ok(true) => Review::Pass {
            bytes: request.with_body(value.to_string().as_bytes()),
            needs_workspace,
        },
        // The client was asked for the body already.
        Ok(false) if request.head.header("expect").is_some() => Review::Pass {
            bytes: request.with_body(&body),
            needs_workspace,
        },
        Ok(false) => Review::Pass {
            bytes: request.bytes.clone(),
            needs_workspace,
        },
    }
}

impl HeldRequest {
    /// The answer to it in the place of the guest's, and whether the connection ends with it.
    pub(crate) fn refusal(&self, status: &str, message: &str) -> (Vec<u8>, bool) {
        let is_old = self.head.first_line().trim_end().ends_with("HTTP/1.0");
        let closes = self.head.header("connection").is_some_and(|what| {
            what.split(',')
                .any(|word| word.trim().eq_ignore_ascii_case("close"))
        });
        let closes = is_old || closes;
        (error_answer(status, message, closes), closes)
    }

    fn body(&self) -> Vec<u8> {
        let bytes = self.bytes.get(self.body_start..).unwrap_or_default();
        match self.head.body() {
            Some(BodyFrame::Chunked) => join_chunks(bytes),
            _ => bytes.to_vec(),
        }
    }

    /// The request with another body, in one piece.
    fn with_body(&self, body: &[u8]) -> Vec<u8> {
        const OF_THE_BODY: [&str; 4] = ["content-length", "transfer-encoding", "trailer", "expect"];
        let head = self.bytes.get(..self.body_start).unwrap_or_default();
        let mut request = Vec::with_capacity(head.len() + body.len() + 32);
        for (number, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let name = text.split(|byte| *byte == b':').next().unwrap_or_default();
            let name = name.trim_ascii();
            let is_of_the_body = OF_THE_BODY
                .iter()
                .any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()));
            if number == 0 || !is_of_the_body {
                request.extend_from_slice(text);
                request.extend_from_slice(b"\r\n");
            }
        }
        request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        request.extend_from_slice(body);
        request
    }
}

/// What the pieces of a body hold. That they are whole was read along already.
fn join_chunks(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = bytes.split_at(end + 1);
        let line = String::from_utf8_lossy(line);
        let size = line.split(';').next().unwrap_or_default().trim();
        let Some(size) = usize::from_str_radix(size, 16)
            .ok()
            .filter(|size| *size > 0)
        else {
            break;
        };
        let Some(piece) = rest.get(..size) else {
            break;
        };
        body.extend_from_slice(piece);
        bytes = rest.get(size.saturating_add(2)..).unwrap_or_default();
    }
    body
}
