//! The guest agent: a few things that only the guest itself can do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::clock;
use super::protocol::{self, AgentConnection};
use crate::error::QemuError;
use crate::socket;

/// What a command in the guest left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// Its exit code, where it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

impl CommandOutput {
    /// Whether it ended by itself with code 0.
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

/// The guest agent of one machine; a cloneable handle. Calls wait for each other.
///
/// Each call is a connection of its own and begins with a synchronisation, so an answer to an
/// earlier call that came too late is never taken for this one's. A guest that is paused, not up
/// yet or without an agent answers nothing: [`QemuError::Timeout`].
#[derive(Debug, Clone)]
pub struct GuestAgent {
    socket: Arc<Path>,
    limit: Duration,
    /// The agent serves one client at a time.
    call_lock: Arc<Mutex<()>>,
}

/// How long a call may take, unless told otherwise.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// How long an agent may take to say that it cannot shut down; where it can, it says nothing.
const REFUSAL_LIMIT: Duration = Duration::from_secs(1);

impl GuestAgent {
    pub(crate) fn new(socket: &Path) -> GuestAgent {
        GuestAgent {
            socket: socket.into(),
            limit: CALL_LIMIT,
            call_lock: Arc::default(),
        }
    }

    /// The same agent with another time limit for each call, instead of 5 seconds.
    pub fn with_limit(&self, limit: Duration) -> GuestAgent {
        GuestAgent {
            limit,
            ..self.clone()
        }
    }

    /// Makes sure that the agent answers.
    pub async fn sync(&self) -> Result<(), QemuError> {
        self.call("guest-ping", json!({})).await.map(drop)
    }

    /// Sets the guest's clock to the host's. Answers how wrong it then is, in milliseconds: more
    /// than zero is fast. The way to the agent is not part of that: an agent without a
    /// connection looks only now and then whether there is one.
    ///
    /// # Errors
    /// [`QemuError::Refused`] where the guest does not tell the time, [`QemuError::Timeout`] where
    /// it does not answer.
    pub async fn set_clock(&self) -> Result<i64, QemuError> {
        let _calling = self.call_lock.lock().await;
        let command = "guest-set-time";
        let mut connection = self.connect(command).await?;
        let work = clock::set_to_host(&mut connection, &self.socket);
        match timeout(self.limit, work).await {
            Ok(result) => result,
            Err(_) => Err(self.timeout_error(command)),
        }
    }

    /// Bytes that went through a network device of the guest so far, in either direction.
    ///
    /// # Errors
    /// As for every call; also where the guest has no such device, or the agent no counters of it.
    pub async fn network_bytes(&self, device: &str) -> Result<u64, QemuError> {
        let command = "guest-network-get-interfaces";
        let answer = self.call(command, json!({})).await?;
        network_bytes(&answer, device).ok_or_else(|| self.unexpected(command, &answer))
    }

    /// Lets every file system of the guest discard the blocks that it does not use. Answers how many
    /// bytes that was, as far as the guest tells.
    ///
    /// # Errors
    /// As for every call; where the limit is over, the guest goes on with it.
    pub async fn trim(&self) -> Result<u64, QemuError> {
        let command = "guest-fstrim";
        let answer = self.call(command, json!({})).await?;
        trimmed_bytes(&answer).ok_or_else(|| self.unexpected(command, &answer))
    }

    /// Asks the guest to power off, and returns when it was asked; the end of QEMU tells that it
    /// did.
    pub async fn shutdown(&self) -> Result<(), QemuError> {
        let _calling = self.call_lock.lock().await;
        let command = "guest-shutdown";
        let mut connection = self.connect(command).await?;
        let arguments = json!({ "mode": "powerdown" });
        match timeout(REFUSAL_LIMIT, connection.call(command, arguments)).await {
            Ok(Err(error @ QemuError::Refused { .. })) => Err(error),
            _ => Ok(()),
        }
    }

    /// Runs a program in the guest and waits for its end. It gets no input, and its output is
    /// kept by the agent until it ends (at most 16 MiB of each kind).
    ///
    /// # Errors
    /// [`QemuError::Timeout`] where it has not ended within the limit; it then goes on in the guest.
    pub async fn exec(&self, argv: &[&str]) -> Result<CommandOutput, QemuError> {
        let command = "guest-exec";
        let Some((program, rest)) = argv.split_first() else {
            return Err(QemuError::Refused {
                command: command.to_owned(),
                description: "there is no program to run".to_owned(),
            });
        };
        let deadline = Instant::now() + self.limit;
        let arguments = json!({ "path": program, "arg": rest, "capture-output": true });
        let answer = self.call(command, arguments).await?;
        let Some(pid) = answer.get("pid").and_then(Value::as_i64) else {
            return Err(self.unexpected(command, &answer));
        };
        let command = "guest-exec-status";
        let mut pause = Duration::from_millis(10);
        loop {
            let answer = self.call(command, json!({ "pid": pid })).await?;
            if answer.get("exited").and_then(Value::as_bool) == Some(true) {
                return parse_output(&answer).ok_or_else(|| self.unexpected(command, &answer));
            }
            if Instant::now() + pause > deadline {
                return Err(QemuError::Timeout {
                    command: (*program).to_owned(),
                    limit: self.limit,
                });
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    async fn call(&self, command: &'static str, arguments: Value) -> Result<Value, QemuError> {
        let _calling = self.call_lock.lock().await;
        let call = async {
            let mut connection = self.connect(command).await?;
            connection.call(command, arguments).await
        };
        match timeout(self.limit, call).await {
            Ok(result) => result,
            Err(_) => Err(self.timeout_error(command)),
        }
    }

    async fn connect(
        &self,
        command: &'static str,
    ) -> Result<AgentConnection<socket::Stream>, QemuError> {
        let connect = async {
            let (stream, _peer) = socket::connect(&self.socket).await?;
            let mut connection = AgentConnection::new(stream, &self.socket);
            connection.sync(protocol::fresh_id()).await?;
            Ok(connection)
        };
        match timeout(self.limit, connect).await {
            Ok(result) => result,
            Err(_) => Err(self.timeout_error(command)),
        }
    }

    fn timeout_error(&self, command: &str) -> QemuError {
        QemuError::Timeout {
            command: command.to_owned(),
            limit: self.limit,
        }
    }

    fn unexpected(&self, command: &str, answer: &Value) -> QemuError {
        protocol::unexpected_answer(&self.socket, command, answer)
    }
}

/// What was discarded on all file systems together. One that cannot, says so and counts nothing.
fn trimmed_bytes(answer: &Value) -> Option<u64> {
    let paths = answer.get("paths")?.as_array()?;
    let bytes = |path: &Value| path.get("trimmed").and_then(Value::as_u64);
    Some(paths.iter().filter_map(bytes).fold(0, u64::saturating_add))
}

/// The bytes of a device.
fn network_bytes(devices: &Value, name: &str) -> Option<u64> {
    let is_it = |device: &&Value| device.get("name").and_then(Value::as_str) == Some(name);
    let device = devices.as_array()?.iter().find(is_it)?;
    let statistics = device.get("statistics")?;
    let bytes = |key| statistics.get(key).and_then(Value::as_u64);
    Some(bytes("rx-bytes")?.saturating_add(bytes("tx-bytes")?))
}

/// What a program left behind, from the status of one that ended.
fn parse_output(status: &Value) -> Option<CommandOutput> {
    let number = |key| {
        let value = status.get(key).and_then(Value::as_i64);
        value.and_then(|value| i32::try_from(value).ok())
    };
    let data = |key| match status.get(key) {
        Some(value) => BASE64.decode(value.as_str()?).ok(),
        None => Some(Vec::new()),
    };
    Some(CommandOutput {
        code: number("exitcode"),
        signal: number("signal"),
        stdout: data("out-data")?,
        stderr: data("err-data")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_the_network() {
        let device = |name: &str, received: u64, sent: u64| {
            json!({
                "name": name,
                "statistics": { "rx-bytes": received, "tx-bytes": sent, "rx-packets": 9 },
            })
        };
        for (devices, expected) in [
            (
                json!([device("lo", 5, 5), device("eth0", 100, 20)]),
                Some(120),
            ),
            (
                json!([device("podman0", 3, 4), device("eth0", 1, 2)]),
                Some(3),
            ),
            (json!([device("lo", 5, 5), { "name": "eth0" }]), None),
            (json!([]), None),
            (json!({}), None),
        ] {
            assert_eq!(network_bytes(&devices, "eth0"), expected, "{devices}");
        }
    }

    #[test]
    fn bytes_that_were_discarded() {
        for (answer, expected) in [
            (
                json!({ "paths": [
                    { "path": "/var", "trimmed": 4096, "minimum": 0 },
                    { "path": "/", "error": "the discard operation is not supported" },
                    { "path": "/data", "trimmed": 100 },
                ] }),
                Some(4196),
            ),
            (json!({ "paths": [] }), Some(0)),
            (json!({}), None),
        ] {
            assert_eq!(trimmed_bytes(&answer), expected, "{answer}");
        }
    }

    #[test]
    fn output_of_a_program() {
        for (status, expected) in [
            (
                json!({"exited": true, "exitcode": 0, "out-data": "aGVsbG8K"}),
                Some((Some(0), None, "hello\n", "")),
            ),
            (
                json!({"exited": true, "signal": 9, "err-data": "/w=="}),
                Some((None, Some(9), "", "\u{fffd}")),
            ),
            (
                json!({"exited": true, "exitcode": 0, "out-data": "?"}),
                None,
            ),
            (json!({"exited": true, "exitcode": 0, "out-data": 5}), None),
        ] {
            let found = parse_output(&status);
            let found = found.as_ref().map(|found| {
                (
                    found.code,
                    found.signal,
                    String::from_utf8_lossy(&found.stdout),
                    String::from_utf8_lossy(&found.stderr),
                )
            });
            let expected = expected.map(|(c, s, o, e)| (c, s, o.into(), e.into()));
            assert_eq!(found, expected, "{status}");
        }
    }
}
