//! One connection for many commands.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::{ConnectionFault, SshClient, SshError};

/// How often it is looked whether there is a connection.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How much of what ssh says is told, in bytes.
const TOLD: u64 = 64 << 10;

/// A connection that is kept open for commands. It ends with this value.
#[derive(Debug)]
pub struct SshControl {
    client: SshClient,
    socket: PathBuf,
    connection: Child,
    /// What it says, until it ends. Read all the time: it would wait where nobody does.
    said: Option<JoinHandle<Vec<u8>>>,
}

impl SshControl {
    /// Connects, and keeps the control socket in `directory`, which is the caller's alone and whose
    /// path is short: a socket's has no more than 107 bytes. What is asked for, a password say, is
    /// asked for at the terminal. `prepare` is shown the command before it starts; `goes_on` is asked
    /// meanwhile whether to wait any longer.
    ///
    /// # Errors
    /// There is no connection.
    pub fn open(
        client: SshClient,
        directory: &Path,
        prepare: impl FnOnce(&mut Command),
        goes_on: impl Fn() -> bool,
    ) -> Result<Self, SshError> {
        let socket = directory.join("ssh");
        let mut command = client.options();
        command
            .args(connection_options(&socket))
            .args(["--", client.address().host.as_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        prepare(&mut command);
        let mut connection = command.spawn().map_err(SshError::of_start)?;
        let errors = connection.stderr.take();
        let mut control = SshControl {
            client,
            socket,
            connection,
            said: errors.map(|errors| thread::spawn(move || beginning(errors))),
        };
        // ssh makes the socket when it has been let in.
        while !control.socket.exists() {
            if control.has_ended() || !goes_on() {
                return Err(control.failure());
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(control)
    }

    /// How the machine is reached.
    #[must_use]
    pub fn client(&self) -> &SshClient {
        &self.client
    }

    /// ssh that has `remote` run by the shell there, over this connection and no other.
    #[must_use]
    pub fn command(&self, remote: &str) -> Command {
        let mut command = self.client.options();
        command.args(command_options(&self.socket)).args([
            "--",
            self.client.address().host.as_str(),
            remote,
        ]);
        command
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.connection.try_wait(), Ok(None))
    }

    /// Why there is no connection, with what ssh said of it.
    fn failure(&mut self) -> SshError {
        let _ = self.connection.kill();
        let _ = self.connection.wait();
        let said = self.said.take().and_then(|said| said.join().ok());
        let said = said.unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<String> = said
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        let quoted = lines.iter().filter(|line| !line.is_empty());
        SshError::Connection {
            address: self.client.address().clone(),
            fault: ConnectionFault::read(&lines),
            said: quoted.map(|line| format!("\n    {line}")).collect(),
        }
    }
}

impl Drop for SshControl {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = self.connection.kill();
        let _ = self.connection.wait();
        // One that was killed leaves it.
        let _ = fs::remove_file(&self.socket);
    }
}

/// Reads to the end, and returns the beginning.
fn beginning(mut from: impl Read) -> Vec<u8> {
    let mut text = Vec::new();
    // What cannot be read is not told.
    let _ = from.by_ref().take(TOLD).read_to_end(&mut text);
    let _ = io::copy(&mut from, &mut io::sink());
    text
}

/// What makes ssh the one that keeps the connection, and has it notice within 20 s that the other
/// side is gone.
fn connection_options(socket: &Path) -> Vec<String> {
    let mut words = vec!["-N".to_owned()];
    for option in [
        "ControlMaster=yes".to_owned(),
        format!("ControlPath={}", escaped(socket)),
        "ControlPersist=no".to_owned(),
        "ServerAliveInterval=5".to_owned(),
        "ServerAliveCountMax=3".to_owned(),
    ] {
        words.extend(["-o".to_owned(), option]);
    }
    words
}

/// What makes it use that one. Without it ssh would make a connection of its own, which nobody watches.
fn command_options(socket: &Path) -> Vec<String> {
    let mut words = Vec::new();
    for option in [
        "ControlMaster=no".to_owned(),
        format!("ControlPath={}", escaped(socket)),
        "ProxyCommand=false".to_owned(),
    ] {
        words.extend(["-o".to_owned(), option]);
    }
    words
}

/// ssh replaces `%h` and the like in it.
fn escaped(socket: &Path) -> String {
    socket.display().to_string().replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_to_its_end_and_told_from_its_beginning() {
        let long = TOLD as usize * 3;
        let mut from = &*[b"begins".to_vec(), vec![b'x'; long]].concat();
        let told = beginning(&mut from);
        assert!(from.is_empty());
        assert!(told.starts_with(b"begins") && told.len() as u64 == TOLD);
    }

    #[test]
    fn one_keeps_the_connection_and_the_others_make_none() {
        let socket = Path::new("/run/a%b/ssh");
        let keeps = connection_options(socket).join(" ");
        assert!(keeps.starts_with("-N -o ControlMaster=yes -o ControlPath=/run/a%%b/ssh -o "));
        assert!(keeps.contains("ServerAliveInterval=5"));
        assert_eq!(
            command_options(socket).join(" "),
            "-o ControlMaster=no -o ControlPath=/run/a%%b/ssh -o ProxyCommand=false"
        );
    }
}
