//! The ssh client: one command on the device, its lines as they come.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use super::address::{Address, Host};
use crate::failure::{Context, Failure, Result};

/// The user on a device, unless another one is named.
const USER: &str = "root";
/// How often the waiting looks up.
const PULSE: Duration = Duration::from_millis(100);
/// The longest line that is taken from a device; the rest of a longer one comes as more lines.
const LONGEST_LINE: u64 = 8 * 1024;
/// How many lines of a device's answer an error repeats.
const REPEATED_LINES: usize = 4;
/// The exit code by which ssh says that the failure is its own.
const OWN_FAILURE: i32 = 255;
/// The exit code by which a shell says that there is no such command.
const NOT_FOUND: i32 = 127;

/// How a device is reached.
pub(super) struct Ssh<'a> {
    pub(super) address: &'a Address,
    pub(super) extra: &'a [String],
}

/// Which way a line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output: the answer.
    Answer,
    /// Standard error: how it goes.
    Talk,
}

/// A running child that does not outlive its owner.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only where the child has ended.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Ssh<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(["-o", "ConnectTimeout=10"])
            .args(["-o", "StrictHostKeyChecking=accept-new"])
            .args(["-T"]);
        if let Some(port) = self.address.port {
            command.args(["-p", &port.to_string()]);
        }
        command.args(["-l", self.address.user.as_deref().unwrap_or(USER)]);
        command.args(self.extra);
        command
    }

    /// The host that ssh would connect to: its configuration may give the name another meaning.
    pub(super) fn resolve_alias(&self) -> Result<Host> {
        let mut command = self.command();
        command.args(["-G", "--", self.address.host.as_str()]);
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(cannot_start)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!(
                "ssh does not accept this: {}",
                said.trim()
            )));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let name = text.lines().find_map(|line| line.strip_prefix("hostname "));
        match name.map(str::parse) {
            Some(Ok(host)) => Ok(host),
            _ => Ok(self.address.host.clone()),
        }
    }

    /// Runs `remote` in the device's shell. Each line that it prints goes to `line`; `pulse` is
    /// called several times a second and ends the command by returning false.
    pub(super) fn run(
        &self,
        remote: &str,
        mut line: impl FnMut(Stream, &str),
        mut pulse: impl FnMut() -> bool,
    ) -> Result<()> {
        let mut command = self.command();
        command
            .args(["--", self.address.host.as_str(), remote])
            // Passwords and host keys are asked for on the terminal, not here.
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Guard(command.spawn().map_err(cannot_start)?);
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.0.stdout.take() {
            read_lines(Stream::Answer, stdout, sender.clone());
        }
        if let Some(stderr) = child.0.stderr.take() {
            read_lines(Stream::Talk, stderr, sender);
        }
        let mut said: Vec<String> = Vec::new();
        loop {
            if !pulse() {
                return Err(Failure::interrupted());
            }
            match lines.recv_timeout(PULSE) {
                Ok((stream, text)) => {
                    line(stream, &text);
                    if said.len() == REPEATED_LINES {
                        said.remove(0);
                    }
                    said.push(text);
                }
                // A connection that is shared by the user's configuration goes on in a process
                // that keeps the pipes: their end is not what to wait for.
                Err(RecvTimeoutError::Timeout) => match child.0.try_wait() {
                    Ok(None) => {}
                    _ => break,
                },
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = child.0.wait().context(|| "cannot wait for ssh".into())?;
        match status.code() {
            Some(0) => Ok(()),
            code => Err(self.explain(code, &said)),
        }
    }

    /// What an exit code means, with the words of the device or of ssh.
    fn explain(&self, code: Option<i32>, said: &[String]) -> Failure {
        let device = self.address;
        let has = |text: &str| said.iter().any(|line| line.contains(text));
        let mut failure = match code {
            Some(OWN_FAILURE) if has("Permission denied") => {
                Failure::new(format!("{device} does not let us in")).hint(
                    "check the user, the key that ssh offers (--ssh-arg=-i --ssh-arg=<file>) \
                     and that the device accepts it",
                )
            }
            Some(OWN_FAILURE) if has("REMOTE HOST IDENTIFICATION HAS CHANGED") => Failure::new(
                format!("{device} has another host key than before"),
            )
            .hint("where the device was set up again, forget the old key with `ssh-keygen -R`"),
            Some(OWN_FAILURE) => Failure::new(format!("cannot reach {device} over ssh"))
                .hint("check that the device is on and that its ssh server runs"),
            Some(NOT_FOUND) => Failure::new(format!("{device} has no avocadoctl")).hint(
                "is it the right device? `deploy` updates devices that run an image with avocadoctl",
            ),
            Some(_) if has("needed signatures") => {
                Failure::new(format!("{device} does not trust this signing key")).hint(
                    "the device trusts the key that its own image was built with: name that key \
                     in `runtimes.<name>.signing.key`, or provision the device with this project",
                )
            }
            Some(_) => Failure::new(format!("{device} refused the runtime")),
            None => Failure::new("ssh was ended by a signal"),
        };
        if !said.is_empty() {
            failure.causes.push(said.join("\n"));
        }
        failure
    }
}

fn cannot_start(error: std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => {
            Failure::new("there is no ssh on this machine").hint("install an OpenSSH client")
        }
        _ => Failure::new("cannot start ssh").because(&error),
    }
}

/// Sends each line of `from`, until its end. The thread ends with the pipe.
fn read_lines(stream: Stream, from: impl Read + Send + 'static, to: Sender<(Stream, String)>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            match (&mut reader)
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line)
            {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if !text.is_empty() && to.send((stream, text.to_owned())).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_failure_is_named() {
        let address: Address = "root@dev:2222".parse().unwrap();
        let ssh = Ssh {
            address: &address,
            extra: &[],
        };
        for (code, said, message) in [
            (
                Some(255),
                "root@dev: Permission denied (publickey).",
                "root@dev:2222 does not let us in",
            ),
            (
                Some(255),
                "ssh: connect to host dev port 2222: No route to host",
                "cannot reach root@dev:2222 over ssh",
            ),
            (
                Some(127),
                "sh: avocadoctl: not found",
                "root@dev:2222 has no avocadoctl",
            ),
            (
                Some(1),
                "error: the signature is wrong",
                "root@dev:2222 refused the runtime",
            ),
            (
                Some(1),
                "  caused by: it has 0 of 1 needed signatures",
                "root@dev:2222 does not trust this signing key",
            ),
            (None, "", "ssh was ended by a signal"),
        ] {
            let failure = ssh.explain(code, &[said.to_owned()]);
            assert_eq!(failure.message, message);
            assert_eq!(failure.causes, [said]);
        }
    }

    #[test]
    fn long_output_comes_in_pieces() {
        let (sender, lines) = mpsc::channel();
        let text = format!("one\r\n\n{}\ntwo", "x".repeat(LONGEST_LINE as usize + 5));
        read_lines(Stream::Talk, std::io::Cursor::new(text), sender);
        let lengths: Vec<usize> = lines.iter().map(|(_, line)| line.len()).collect();
        assert_eq!(lengths, [3, LONGEST_LINE as usize, 5, 3]);
    }
}
