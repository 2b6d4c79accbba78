//! `supervisor.sock`: requests to the owner, one per line.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

use super::gate::{Hub, Message};
use super::policy::{self, Refusal};
use super::wire::{Failure, Request, Response};

/// The longest line of a request, in bytes.
const LONGEST: u64 = 64 << 10;

/// Serves one client until it leaves, or until the VM has ended and the last answer is given.
pub(crate) async fn serve(stream: UnixStream, hub: Hub, mut ending: watch::Receiver<bool>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(LONGEST));
    loop {
        let mut line = String::new();
        reader.get_mut().set_limit(LONGEST);
        let read = tokio::select! {
            read = reader.read_line(&mut line) => read,
            () = super::over(&mut ending) => return,
        };
        if !matches!(read, Ok(count) if count > 0 && line.ends_with('\n')) {
            return;
        }
        let response = match Request::parse(&line) {
            Ok(request) => respond(request, &hub).await,
            Err(error) => Response::Error(Failure::new(
                format!("the request is not understood: {error}"),
                None,
            )),
        };
        let Ok(mut bytes) = serde_json::to_vec(&response) else {
            return;
        };
        bytes.push(b'\n');
        if writer.write_all(&bytes).await.is_err() || *ending.borrow() {
            return;
        }
    }
}

async fn respond(request: Request, hub: &Hub) -> Response {
    let gone = || Err(Refusal::Gone.failure());
    let (request, limit) = match request {
        Request::Status {} => {
            let (reply, answer) = oneshot::channel();
            hub.tell(Message::Status { reply });
            return match answer.await.map(serde_json::to_value) {
                Ok(Ok(status)) => Response::Result(status),
                _ => Response::Error(Refusal::Gone.failure()),
            };
        }
        Request::Stop {
            force,
            timeout_secs,
        } => {
            let limit = timeout_secs.map(Duration::from_secs);
            (policy::Request::Stop { force }, limit)
        }
        Request::Wake {} => (policy::Request::Wake, None),
        Request::Hibernate {} => (policy::Request::Hibernate, None),
        Request::Release {} => (policy::Request::Release, None),
    };
    let (reply, answer) = oneshot::channel();
    hub.tell(Message::Ask {
        request,
        limit,
        reply,
    });
    match answer.await.unwrap_or_else(|_| gone()) {
        Ok(()) => Response::Result(Value::Object(serde_json::Map::new())),
        Err(failure) => Response::Error(failure),
    }
}
