//! QEMU's machine protocol: one JSON document per line, commands with ids, events in between.
//!
//! Of an answer only what is needed is read; events and fields that a newer QEMU adds are none of
//! our business.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::Error;
use crate::lines::Lines;

/// Longer lines than this QEMU never sends for what we ask.
const LINE_LIMIT: usize = 4 << 20;

/// Something that QEMU tells without being asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Notification {
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// A connection; a cloneable handle. It is closed when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Qmp {
    requests: mpsc::UnboundedSender<Request>,
    socket: Arc<Path>,
}

#[derive(Debug)]
struct Request {
    command: &'static str,
    arguments: Value,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<Value, String>;

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    id: Option<u64>,
    #[serde(rename = "return")]
    result: Option<Value>,
    error: Option<Refusal>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    desc: String,
}

impl Qmp {
    /// Greets over a fresh connection to `socket`, and keeps it.
    ///
    /// # Errors
    /// [`Error::Busy`] where no greeting comes within `limit`.
    pub(crate) async fn start<S>(
        stream: S,
        socket: &Path,
        limit: Duration,
    ) -> Result<(Qmp, mpsc::UnboundedReceiver<Notification>), Error>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = split(stream);
        let mut lines = Lines::new(reader, LINE_LIMIT);
        match timeout(limit, lines.next()).await {
            Err(_) => {
                return Err(Error::Busy {
                    socket: socket.to_owned(),
                });
            }
            Ok(Ok(None)) => return Err(disconnected(socket)),
            Ok(Err(source)) => return Err(broken(socket, source)),
            Ok(Ok(Some(line))) => {
                let message = serde_json::from_slice::<Message>(&line);
                if !message.is_ok_and(|message| message.greeting.is_some()) {
                    return Err(Error::Protocol {
                        socket: socket.to_owned(),
                        detail: "its first line is no greeting of QEMU".to_owned(),
                    });
                }
            }
        }
        let (requests, queue) = mpsc::unbounded_channel();
        let (events, notifications) = mpsc::unbounded_channel();
        tokio::spawn(serve(lines, writer, queue, events));
        let qmp = Qmp {
            requests,
            socket: socket.into(),
        };
        qmp.execute("qmp_capabilities", json!({}), limit).await?;
        Ok((qmp, notifications))
    }

    /// Asks for something, and waits at most `limit` for the answer.
    pub(crate) async fn execute(
        &self,
        command: &'static str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, Error> {
        match timeout(limit, self.send(command, arguments)).await {
            Err(_) => Err(Error::Timeout {
                command: command.to_owned(),
                limit,
            }),
            Ok(Err(_)) => Err(disconnected(&self.socket)),
            Ok(Ok(Err(description))) => Err(Error::Refused {
                command: command.to_owned(),
                description,
            }),
            Ok(Ok(Ok(value))) => Ok(value),
        }
    }

    /// Sends at once, even where nobody waits for the answer.
    pub(crate) fn send(
        &self,
        command: &'static str,
        arguments: Value,
    ) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        // Where the connection is closed, the request is dropped and its receiver learns of it.
        let _ = self.requests.send(Request {
            command,
            arguments,
            answer,
        });
        receiver
    }
}

fn disconnected(socket: &Path) -> Error {
    Error::Disconnected {
        socket: socket.to_owned(),
    }
}

fn broken(socket: &Path, source: io::Error) -> Error {
    Error::Protocol {
        socket: PathBuf::from(socket),
        detail: source.to_string(),
    }
}

/// Owns the connection until either end closes it. An answer is matched by its id, so one that
/// comes after its asker gave up is never taken for another's.
async fn serve<R, W>(
    mut lines: Lines<R>,
    mut writer: W,
    mut queue: mpsc::UnboundedReceiver<Request>,
    events: mpsc::UnboundedSender<Notification>,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut pending: HashMap<u64, oneshot::Sender<Answer>> = HashMap::new();
    let mut last_id = 0;
    loop {
        tokio::select! {
            request = queue.recv() => {
                let Some(request) = request else { return };
                last_id += 1;
                let line = format!(
                    "{}\n",
                    json!({
                        "execute": request.command,
                        "arguments": request.arguments,
                        "id": last_id,
                    })
                );
                pending.insert(last_id, request.answer);
                if writer.write_all(line.as_bytes()).await.is_err() {
                    // What QEMU said before it went is still to be read.
                    queue.close();
                }
            }
            line = lines.next() => {
                let Ok(Some(line)) = line else { return };
                let Ok(message) = serde_json::from_slice::<Message>(&line) else { continue };
                if let Some(name) = message.event {
                    let _ = events.send(Notification { name, data: message.data });
                } else if let Some(answer) = message.id.and_then(|id| pending.remove(&id)) {
                    let _ = answer.send(match message.error {
                        Some(refusal) => Err(refusal.desc),
                        None => Ok(message.result.unwrap_or_default()),
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
