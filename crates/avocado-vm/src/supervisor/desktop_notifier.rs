//! Hints to the desktop application: `vm.notify.*` over its socket. Nothing depends on them.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::log::SupervisorLog;

/// How long the application may take to connect, to read and to answer, each.
const LIMIT: Duration = Duration::from_millis(100);

/// The way to the application. Hints arrive in their order, and delay no work of the supervisor.
#[derive(Debug)]
pub(crate) struct DesktopNotifier {
    sender: mpsc::UnboundedSender<(&'static str, Value)>,
    task: JoinHandle<()>,
}

impl DesktopNotifier {
    /// To the socket, if there is one.
    pub(crate) fn new(socket: Option<PathBuf>, log: SupervisorLog) -> DesktopNotifier {
        let (sender, mut hints) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some((method, params)) = hints.recv().await {
                let Some(socket) = &socket else { continue };
                if let Err(why) = send(socket.clone(), method, params).await {
                    log.line(&format!(
                        "{method} did not reach the desktop application: {why}"
                    ));
                }
            }
        });
        DesktopNotifier { sender, task }
    }

    pub(crate) fn hint(&self, method: &'static str, params: Value) {
        let _ = self.sender.send((method, params));
    }

    /// Waits until the last hint was sent.
    pub(crate) async fn end(self) {
        drop(self.sender);
        let _ = timeout(LIMIT * 4, self.task).await;
    }
}

async fn send(socket: PathBuf, method: &str, params: Value) -> Result<(), String> {
    let late = |_| "it does not answer".to_owned();
    let failed = |error: std::io::Error| error.to_string();
    let connect = timeout(LIMIT, avocado_qemu::connect_when_room(&socket)).await;
    let mut stream = connect.map_err(late)?.map_err(failed)?;
    let mut line = json!({ "method": method, "params": params, "id": 1 }).to_string();
    line.push('\n');
    let write = timeout(LIMIT, stream.write_all(line.as_bytes())).await;
    write.map_err(late)?.map_err(failed)?;
    // What it answers does not matter; that it does means that it heard.
    let mut answer = Vec::new();
    let mut lines = BufReader::new(stream);
    let read = timeout(LIMIT, lines.read_until(b'\n', &mut answer)).await;
    read.map_err(late)?.map_err(failed).map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn hints_arrive_in_order_and_a_silent_listener_holds_nobody_up() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let log = SupervisorLog::open(&place.path().join("log"));
        let notify = DesktopNotifier::new(Some(path), log);
        notify.hint("vm.notify.starting", json!({}));
        notify.hint("vm.notify.running", json!({ "pid": 7, "ssh_port": 22 }));
        // The first gets no answer.
        let (first, _) = listener.accept().await.unwrap();
        let (second, _) = listener.accept().await.unwrap();
        let mut lines = Vec::new();
        for stream in [first, second] {
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).await.unwrap();
            lines.push(line);
        }
        assert_eq!(
            lines,
            [
                "{\"method\":\"vm.notify.starting\",\"params\":{},\"id\":1}\n",
                "{\"method\":\"vm.notify.running\",\"params\":{\"pid\":7,\"ssh_port\":22},\"id\":1}\n",
            ]
        );
        notify.end().await;
    }
}
