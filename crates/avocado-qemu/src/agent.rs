//! The guest agent: a few things that only the guest itself can do.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::{Error, agent_wire as wire, socket};

/// What a command in the guest left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code, where it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether it ended by itself with code 0.
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

/// The guest agent of one machine; a cloneable handle. Calls wait for each other.
///
/// Each call is a connection of its own and begins with a synchronisation, so an answer to an
/// earlier call that came too late is never taken for this one's. A guest that is paused, not up
/// yet or without an agent answers nothing: [`Error::Timeout`].
#[derive(Debug, Clone)]
pub struct Agent {
    socket: Arc<Path>,
    pub(crate) limit: Duration,
    /// The agent serves one client at a time.
    pub(crate) turn: Arc<Mutex<()>>,
}

const LIMIT: Duration = Duration::from_secs(5);
/// How long an agent may take to say that it cannot shut down; where it can, it says nothing.
const OBJECTION: Duration = Duration::from_secs(1);
/// How far a clock may be from what it was set to.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

impl Agent {
    pub(crate) fn new(socket: &Path) -> Agent {
        Agent {
            socket: socket.into(),
            limit: LIMIT,
            turn: Arc::default(),
        }
    }

    /// The same agent with another time limit for each call, instead of 5 seconds.
    pub fn with_limit(&self, limit: Duration) -> Agent {
        Agent {
            limit,
            ..self.clone()
        }
    }

    /// Makes sure that the agent answers.
    pub async fn sync(&self) -> Result<(), Error> {
        self.call("guest-ping", json!({})).await.map(drop)
    }

    /// The guest's clock.
    pub async fn time(&self) -> Result<SystemTime, Error> {
        let answer = self.call("guest-get-time", json!({})).await?;
        let since = answer.as_u64().map(Duration::from_nanos);
        since
            .and_then(|since| UNIX_EPOCH.checked_add(since))
            .ok_or_else(|| self.nonsense("guest-get-time", &answer))
    }

    /// Sets the guest's clock.
    ///
    /// # Errors
    /// [`Error::Refused`] where the guest's clock is not what it was set to. Where only its
    /// hardware clock could not be set as well, that is no error.
    pub async fn set_time(&self, time: SystemTime) -> Result<(), Error> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        let asked = Instant::now();
        let answer = self
            .call("guest-set-time", json!({ "time": nanoseconds }))
            .await;
        let Err(error @ Error::Refused { .. }) = answer else {
            return answer.map(drop);
        };
        let found = self.time().await?;
        let Some(expected) = time.checked_add(asked.elapsed()) else {
            return Err(error);
        };
        let off = match found.duration_since(expected) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        if off <= CLOCK_TOLERANCE {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Asks the guest to power off, and returns when it was asked; the end of QEMU tells that it
    /// did.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let command = "guest-shutdown";
        let mut connection = self.connect(command).await?;
        let arguments = json!({ "mode": "powerdown" });
        match timeout(OBJECTION, connection.call(command, arguments)).await {
            Ok(Err(error @ Error::Refused { .. })) => Err(error),
            _ => Ok(()),
        }
    }

    /// Runs a program in the guest and waits for its end. It gets no input, and its output is
    /// kept by the agent until it ends (at most 16 MiB of each kind).
    ///
    /// # Errors
    /// [`Error::Timeout`] where it has not ended within the limit; it then goes on in the guest.
    pub async fn exec(&self, argv: &[&str]) -> Result<Output, Error> {
        let command = "guest-exec";
        let Some((program, rest)) = argv.split_first() else {
            return Err(Error::Refused {
                command: command.to_owned(),
                description: "there is no program to run".to_owned(),
            });
        };
        let deadline = Instant::now() + self.limit;
        let arguments = json!({ "path": program, "arg": rest, "capture-output": true });
        let answer = self.call(command, arguments).await?;
        let Some(pid) = answer.get("pid").and_then(Value::as_i64) else {
            return Err(self.nonsense(command, &answer));
        };
        let command = "guest-exec-status";
        let mut pause = Duration::from_millis(10);
        loop {
            let answer = self.call(command, json!({ "pid": pid })).await?;
            if answer.get("exited").and_then(Value::as_bool) == Some(true) {
                return output(&answer).ok_or_else(|| self.nonsense(command, &answer));
            }
            if Instant::now() + pause > deadline {
                return Err(Error::Timeout {
                    command: (*program).to_owned(),
                    limit: self.limit,
                });
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    async fn call(&self, command: &'static str, arguments: Value) -> Result<Value, Error> {
        let _turn = self.turn.lock().await;
        let call = async {
            let mut connection = self.connect(command).await?;
            connection.call(command, arguments).await
        };
        match timeout(self.limit, call).await {
            Ok(result) => result,
            Err(_) => Err(self.late(command)),
        }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) async fn connect(
        &self,
        command: &'static str,
    ) -> Result<wire::Connection<socket::Stream>, Error> {
        let connect = async {
            let (stream, _peer) = socket::connect(&self.socket).await?;
            let mut connection = wire::Connection::new(stream, &self.socket);
            connection.sync(wire::fresh_id()).await?;
            Ok(connection)
        };
        match timeout(self.limit, connect).await {
            Ok(result) => result,
            Err(_) => Err(self.late(command)),
        }
    }

    pub(crate) fn late(&self, command: &str) -> Error {
        Error::Timeout {
            command: command.to_owned(),
            limit: self.limit,
        }
    }

    fn nonsense(&self, command: &str, answer: &Value) -> Error {
        let mut shown = answer.to_string();
        shown.truncate(shown.floor_char_boundary(200));
        Error::Protocol {
            socket: self.socket.to_path_buf(),
            detail: format!("it answers {command} with {shown}"),
        }
    }
}

/// What a program left behind, from the status of one that ended.
fn output(status: &Value) -> Option<Output> {
    let number = |key| {
        let value = status.get(key).and_then(Value::as_i64);
        value.and_then(|value| i32::try_from(value).ok())
    };
    let data = |key| match status.get(key) {
        Some(value) => BASE64.decode(value.as_str()?).ok(),
        None => Some(Vec::new()),
    };
    Some(Output {
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
            let found = output(&status);
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
