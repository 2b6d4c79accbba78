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

use crate::error::QemuError;
use crate::line_reader::LineReader;

/// Longer lines than this QEMU never sends for what we ask.
const LINE_LIMIT: usize = 4 << 20;

/// Something that QEMU tells without being asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QmpNotification {
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// A connection; a cloneable handle. It is closed when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct QmpClient {
    requests: mpsc::UnboundedSender<QmpRequest>,
    socket: Arc<Path>,
}

#[derive(Debug)]
struct QmpRequest {
    command: &'static str,
    arguments: Value,
    answer: oneshot::Sender<QmpAnswer>,
}

type QmpAnswer = Result<Value, String>;

#[derive(Deserialize)]
struct QmpMessage {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    id: Option<u64>,
    #[serde(rename = "return")]
    result: Option<Value>,
    error: Option<QmpErrorReply>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct QmpErrorReply {
    #[serde(default)]
    desc: String,
}

impl QmpClient {
    /// Greets over a fresh connection to `socket`, and keeps it.
    ///
    /// # Errors
    /// [`QemuError::Busy`] where no greeting comes within `limit`.
    pub(crate) async fn start<S>(
        stream: S,
        socket: &Path,
        limit: Duration,
    ) -> Result<(QmpClient, mpsc::UnboundedReceiver<QmpNotification>), QemuError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = split(stream);
        let mut lines = LineReader::new(reader, LINE_LIMIT);
        match timeout(limit, lines.next()).await {
            Err(_) => {
                return Err(QemuError::Busy {
                    socket: socket.to_owned(),
                });
            }
            Ok(Ok(None)) => return Err(disconnected(socket)),
            Ok(Err(source)) => return Err(broken(socket, source)),
            Ok(Ok(Some(line))) => {
                let message = serde_json::from_slice::<QmpMessage>(&line);
                if !message.is_ok_and(|message| message.greeting.is_some()) {
                    return Err(QemuError::Protocol {
                        socket: socket.to_owned(),
                        detail: "its first line is no greeting of QEMU".to_owned(),
                    });
                }
            }
        }
        let (requests, queue) = mpsc::unbounded_channel();
        let (events, notifications) = mpsc::unbounded_channel();
        tokio::spawn(serve(lines, writer, queue, events));
        let qmp = QmpClient {
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
    ) -> Result<Value, QemuError> {
        match timeout(limit, self.send(command, arguments)).await {
            Err(_) => Err(QemuError::Timeout {
                command: command.to_owned(),
                limit,
            }),
            Ok(Err(_)) => Err(disconnected(&self.socket)),
            Ok(Ok(Err(description))) => Err(QemuError::Refused {
                command: command.to_owned(),
                description,
            }),
            Ok(Ok(Ok(value))) => Ok(value),
        }
    }

    /// Sends at once, even where no task waits for the answer.
    pub(crate) fn send(
        &self,
        command: &'static str,
        arguments: Value,
    ) -> oneshot::Receiver<QmpAnswer> {
        let (answer, receiver) = oneshot::channel();
        // Where the connection is closed, the request is dropped and its receiver learns of it.
        let _ = self.requests.send(QmpRequest {
            command,
            arguments,
            answer,
        });
        receiver
    }
}

fn disconnected(socket: &Path) -> QemuError {
    QemuError::Disconnected {
        socket: socket.to_owned(),
    }
}

fn broken(socket: &Path, source: io::Error) -> QemuError {
    QemuError::Protocol {
        socket: PathBuf::from(socket),
        detail: source.to_string(),
    }
}

/// Owns the connection until either end closes it. An answer is matched by its id, so one that
/// comes after its asker gave up is never taken for another's.
async fn serve<R, W>(
    mut lines: LineReader<R>,
    mut writer: W,
    mut queue: mpsc::UnboundedReceiver<QmpRequest>,
    events: mpsc::UnboundedSender<QmpNotification>,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut pending: HashMap<u64, oneshot::Sender<QmpAnswer>> = HashMap::new();
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
                let Ok(message) = serde_json::from_slice::<QmpMessage>(&line) else { continue };
                if let Some(name) = message.event {
                    let _ = events.send(QmpNotification { name, data: message.data });
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
