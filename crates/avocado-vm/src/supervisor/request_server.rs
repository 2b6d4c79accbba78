//! `supervisor.sock`: requests to the owner, one per line.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::forwards::Forwards;
use super::owner_handle::{KeepAwakeGuard, OwnerHandle, OwnerMessage};
use super::policy::{Refusal, VmRequest};
use super::protocol::{SupervisorFailure, SupervisorRequest, SupervisorResponse};
use super::request_client::RequestClient;

/// The longest line of a request, in bytes.
const LONGEST: u64 = 64 << 10;

/// Serves requests until the end; then returns when the last answers are given.
pub(crate) async fn serve_all(
    listener: UnixListener,
    handle: OwnerHandle,
    forwards: Arc<Forwards>,
    end: watch::Receiver<bool>,
) {
    let mut clients = JoinSet::new();
    let mut ending = end.clone();
    loop {
        tokio::select! {
            () = ended(&mut ending) => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let forwards = forwards.clone();
                    clients.spawn(serve(stream, handle.clone(), forwards, end.clone()));
                },
                // Out of descriptors, most likely.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
        }
    }
    while clients.join_next().await.is_some() {}
}

/// Returns when it is over.
async fn ended(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Serves one client until it leaves, or until the VM has ended and the last answer is given.
async fn serve(
    stream: UnixStream,
    handle: OwnerHandle,
    forwards: Arc<Forwards>,
    mut ending: watch::Receiver<bool>,
) {
    let Ok(client) = RequestClient::new(&stream) else {
        return;
    };
    let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let process = process.and_then(|pid| u32::try_from(pid).ok());
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(LONGEST));
    // For as long as the client stays, however it leaves.
    let mut keep_awake = None;
    let mut held_forwards = Vec::new();
    loop {
        let mut line = String::new();
        reader.get_mut().set_limit(LONGEST);
        let read = tokio::select! {
            read = reader.read_line(&mut line) => read,
            () = ended(&mut ending) => return,
        };
        if !matches!(read, Ok(count) if count > 0 && line.ends_with('\n')) {
            return;
        }
        let response = match SupervisorRequest::parse(&line) {
            Ok(SupervisorRequest::Forward { ports }) => {
                match Forwards::open_for_command(&forwards, ports, process).await {
                    Ok((guard, opened)) => {
                        held_forwards.push(guard);
                        SupervisorResponse::Result(opened)
                    }
                    Err(failure) => SupervisorResponse::Error(failure),
                }
            }
            Ok(request) => {
                if request == (SupervisorRequest::KeepAwake {}) {
                    keep_awake.get_or_insert_with(|| KeepAwakeGuard::new(&handle));
                }
                respond(request, &client, &handle).await
            }
            Err(error) => SupervisorResponse::Error(SupervisorFailure::new(
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

async fn respond(
    request: SupervisorRequest,
    client: &RequestClient,
    handle: &OwnerHandle,
) -> SupervisorResponse {
    let (request, limit) = match request {
        SupervisorRequest::Status {} => {
            let (reply, answer) = oneshot::channel();
            handle.tell(OwnerMessage::Status { reply });
            return match answer.await.map(serde_json::to_value) {
                Ok(Ok(status)) => SupervisorResponse::Result(status),
                Ok(Err(error)) => SupervisorResponse::Error(SupervisorFailure::new(
                    format!("the status cannot be written as JSON: {error}"),
                    None,
                )),
                Err(_) => SupervisorResponse::Error(Refusal::Gone.into()),
            };
        }
        SupervisorRequest::Configure { idle } => {
            let (reply, answer) = oneshot::channel();
            let client = client.clone();
            handle.tell(OwnerMessage::Configure {
                idle,
                client,
                reply,
            });
            return match answer.await {
                Ok(()) => SupervisorResponse::Result(Value::Object(serde_json::Map::new())),
                Err(_) => SupervisorResponse::Error(Refusal::Gone.into()),
            };
        }
        SupervisorRequest::Stop {
            force,
            timeout_secs,
        } => {
            let limit = timeout_secs.map(Duration::from_secs);
            (VmRequest::Stop { force }, limit)
        }
        SupervisorRequest::Wake {} | SupervisorRequest::KeepAwake {} => (VmRequest::Wake, None),
        // Served before: it is nothing that the owner does.
        SupervisorRequest::Forward { .. } => {
            return SupervisorResponse::Error(Refusal::Gone.into());
        }
        SupervisorRequest::Hibernate {} => (VmRequest::Hibernate, None),
        SupervisorRequest::Release {} => (VmRequest::Release, None),
    };
    let (reply, answer) = oneshot::channel();
    handle.tell(OwnerMessage::Request {
        request,
        limit,
        reply,
        client: client.clone(),
    });
    match answer.await.unwrap_or_else(|_| Err(Refusal::Gone.into())) {
        Ok(()) => SupervisorResponse::Result(Value::Object(serde_json::Map::new())),
        Err(failure) => SupervisorResponse::Error(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_comes_with_who_asked_for_it() {
        let (handle, mut inbox) = OwnerHandle::new();
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let (_ending, end) = watch::channel(false);
        theirs
            .write_all(b"{\"method\":\"hibernate\"}\n")
            .await
            .unwrap();
        let forwards = Forwards::unserved(&handle);
        let served = tokio::spawn(serve(ours, handle, forwards, end));
        let Some(OwnerMessage::Request { reply, client, .. }) = inbox.recv().await else {
            panic!("no request");
        };
        assert!(!client.has_left());
        drop(theirs);
        assert!(client.has_left());
        let _ = reply.send(Ok(()));
        served.await.unwrap();
    }
}
