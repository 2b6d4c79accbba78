//! The guest agent's protocol. Between the two ends lie buffers that outlive connections, so what
//! arrives may answer a question that an earlier connection asked and did not wait for.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};

use crate::error::QemuError;
use crate::line_reader::LineReader;

/// Twice 16 MiB of a program's output in base64, and a little more.
const LINE_LIMIT: usize = 48 << 20;
/// Never part of JSON: sent, it ends whatever the agent was reading; received, it marks the
/// answer to a synchronisation.
const MARK: u8 = 0xff;

/// A number that no earlier synchronisation used.
pub(super) fn fresh_id() -> u32 {
    // Each hasher of the standard library has a random key.
    RandomState::new().build_hasher().finish() as u32
}

/// The error for an answer that no agent gives: its command, and the answer cut short.
pub(super) fn unexpected_answer(socket: &Path, command: &str, answer: &Value) -> QemuError {
    let mut shown = answer.to_string();
    shown.truncate(shown.floor_char_boundary(200));
    QemuError::Protocol {
        socket: socket.to_owned(),
        detail: format!("it answers {command} with {shown}"),
    }
}

/// A connection to an agent.
pub(super) struct AgentConnection<S> {
    lines: LineReader<ReadHalf<S>>,
    writer: WriteHalf<S>,
    socket: PathBuf,
}

#[derive(Deserialize)]
struct AgentMessage {
    #[serde(rename = "return")]
    result: Option<Value>,
    error: Option<AgentErrorReply>,
}

#[derive(Deserialize)]
struct AgentErrorReply {
    #[serde(default)]
    desc: String,
}

impl<S: AsyncRead + AsyncWrite> AgentConnection<S> {
    pub(super) fn new(stream: S, socket: &Path) -> Self {
        let (reader, writer) = split(stream);
        AgentConnection {
            lines: LineReader::new(reader, LINE_LIMIT),
            writer,
            socket: socket.to_owned(),
        }
    }

    /// Reads over everything that is not the answer to this very call.
    pub(super) async fn sync(&mut self, id: u32) -> Result<(), QemuError> {
        self.send(&[MARK]).await?;
        self.ask("guest-sync-delimited", json!({ "id": id }))
            .await?;
        loop {
            let line = self.line().await?;
            let Some(at) = line.iter().rposition(|byte| *byte == MARK) else {
                continue;
            };
            let answer = line.get(at + 1..).unwrap_or_default();
            let Ok(message) = serde_json::from_slice::<AgentMessage>(answer) else {
                continue;
            };
            if message.result.and_then(|result| result.as_u64()) == Some(id.into()) {
                return Ok(());
            }
        }
    }

    /// Asks for something; to be used after [`AgentConnection::sync`].
    pub(super) async fn call(
        &mut self,
        command: &str,
        arguments: Value,
    ) -> Result<Value, QemuError> {
        self.ask(command, arguments).await?;
        let line = self.line().await?;
        let message: AgentMessage =
            serde_json::from_slice(&line).map_err(|error| QemuError::Protocol {
                socket: self.socket.clone(),
                detail: format!("its answer to {command} is no JSON object: {error}"),
            })?;
        match message.error {
            Some(refusal) => Err(QemuError::Refused {
                command: command.to_owned(),
                description: refusal.desc,
            }),
            None => Ok(message.result.unwrap_or_default()),
        }
    }

    async fn ask(&mut self, command: &str, arguments: Value) -> Result<(), QemuError> {
        let question = json!({ "execute": command, "arguments": arguments });
        self.send(format!("{question}\n").as_bytes()).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), QemuError> {
        // Nothing else goes wrong with a socket that is open.
        self.writer
            .write_all(bytes)
            .await
            .map_err(|_| self.closed())
    }

    async fn line(&mut self) -> Result<Vec<u8>, QemuError> {
        match self.lines.next().await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(self.closed()),
            Err(source) if source.kind() == std::io::ErrorKind::InvalidData => {
                Err(QemuError::Protocol {
                    socket: self.socket.clone(),
                    detail: source.to_string(),
                })
            }
            Err(_) => Err(self.closed()),
        }
    }

    fn closed(&self) -> QemuError {
        QemuError::Disconnected {
            socket: self.socket.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    /// Synchronises with 7 and calls, with an agent that says `said` and then hangs up.
    async fn exchange(said: &[u8]) -> (Result<Value, String>, Vec<u8>) {
        let (near, mut far) = duplex(1 << 16);
        far.write_all(said).await.unwrap();
        let (mut far_reader, mut far_writer) = split(far);
        let call = async {
            let mut connection = AgentConnection::new(near, Path::new("qga.sock"));
            connection.sync(7).await?;
            connection.call("guest-ping", json!({})).await
        };
        let result: Result<Value, QemuError> = tokio::select! {
            result = call => result,
            // Long after everything that it said was read.
            () = async {
                for _ in 0..100 { tokio::task::yield_now().await }
                far_writer.shutdown().await.unwrap();
                std::future::pending::<()>().await
            } => unreachable!(),
        };
        let mut heard = Vec::new();
        far_reader.read_to_end(&mut heard).await.unwrap();
        let result = result.map_err(|error| match error {
            QemuError::Refused { description, .. } => description,
            QemuError::Disconnected { .. } => "closed".to_owned(),
            QemuError::Protocol { .. } => "nonsense".to_owned(),
            other => format!("{other:?}"),
        });
        (result, heard)
    }

    #[tokio::test]
    async fn answers_belong_to_their_questions() {
        let closed = || Err("closed".to_owned());
        let table: [(&[u8], Result<Value, String>); 10] = [
            (b"", closed()),
            (b"\xff{\"return\": 7}\n{\"return\": {}}\n", Ok(json!({}))),
            // Late answers to earlier questions, whole, cut off, and with their own mark.
            (
                b"{\"return\": 1}\n\xff{\"return\": 7}\n{\"return\": 2}\n",
                Ok(json!(2)),
            ),
            (
                b"{\"return\": {\"pid\xff{\"return\": 7}\n{\"return\": 2}\n",
                Ok(json!(2)),
            ),
            (
                b"\xff{\"return\": 6}\n{\"return\": 1}\n\xff{\"return\": 7}\n{\"return\": 2}\n",
                Ok(json!(2)),
            ),
            // An agent that complains about the mark before it answers.
            (
                b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\n\xff{\"return\": 7}\n{\"return\": 2}\n",
                Ok(json!(2)),
            ),
            // The right number without a mark answers another client's guest-sync.
            (b"{\"return\": 7}\n{\"return\": 2}\n", closed()),
            (
                b"\xff{\"return\": 7}\n{\"error\": {\"desc\": \"no\"}, \"new\": 1}\n",
                Err("no".to_owned()),
            ),
            (b"\xff{\"return\": 7}\nhello\n", Err("nonsense".to_owned())),
            (b"\xff{\"return\": 7}\n{\"return\": ", closed()),
        ];
        for (said, expected) in table {
            let (found, _) = exchange(said).await;
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(said));
        }
    }

    #[tokio::test]
    async fn a_question_starts_with_a_mark() {
        let (_, heard) = exchange(b"\xff{\"return\": 7}\n{\"return\": {}}\n").await;
        let (mark, rest) = heard.split_first().unwrap();
        assert_eq!(*mark, MARK);
        assert_eq!(
            String::from_utf8_lossy(rest),
            "{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":7}}\n\
             {\"execute\":\"guest-ping\",\"arguments\":{}}\n"
        );
    }

    #[test]
    fn ids_differ() {
        assert_ne!(fresh_id(), fresh_id());
    }
}
