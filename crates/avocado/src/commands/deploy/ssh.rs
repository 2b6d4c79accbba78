//! The ssh client: one command on the device, its lines as they come.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use avocado_ssh::{CONNECTION_FAILED, ConnectionFault, SshAddress, SshClient, SshError, SshHost};

use crate::failure::{Context, Failure, Result};

/// The user on a device, unless another one is named.
const USER: &str = "root";
/// How often the waiting looks up.
const PULSE: Duration = Duration::from_millis(100);
/// The longest line that is taken from a device; the rest of a longer one comes as more lines.
const LONGEST_LINE: u64 = 8 * 1024;
/// How many lines of a device's answer an error repeats.
const REPEATED_LINES: usize = 4;
/// How many bytes of standard output are kept: an error document is far shorter.
const LONGEST_ANSWER: usize = 256 * 1024;
/// The exit code by which a shell says that there is no such command.
const NOT_FOUND: i32 = 127;

/// How a device is reached.
pub(in crate::commands) struct Ssh(SshClient);

/// Which way a line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum Stream {
    Stdout,
    Stderr,
}

/// A command on the device did not end well.
#[derive(Debug)]
pub(in crate::commands) enum SshFailure {
    /// It was not run, or not to its end: complete as it is.
    Ssh(Failure),
    /// It ran and ended with an exit code of its own.
    Command(FailedCommand),
}

/// How a command on the device ended.
#[derive(Debug)]
pub(in crate::commands) struct FailedCommand {
    pub(in crate::commands) code: i32,
    /// What it printed on standard output; the beginning, where that is much.
    pub(in crate::commands) stdout: String,
    /// The last lines that it printed, of either kind.
    pub(in crate::commands) last_lines: Vec<String>,
}

impl From<Failure> for SshFailure {
    fn from(failure: Failure) -> Self {
        SshFailure::Ssh(failure)
    }
}

/// A running child that does not outlive its owner.
struct ChildGuard(Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // Both fail only where the child has ended.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Ssh {
    /// The way to `address`, after a look at what the user has configured for it.
    pub(in crate::commands) fn new(address: &SshAddress, extra: &[String]) -> Result<Self> {
        let client = SshClient::new(address.clone(), extra, Some(USER));
        client.map(Ssh).map_err(|error| cannot_use(&error))
    }

    /// The host that ssh would connect to.
    pub(in crate::commands) fn host(&self) -> &SshHost {
        self.0.host()
    }

    /// Runs `remote` in the device's shell, with `input` to read. Each line that it prints goes to
    /// `line`; `pulse` is called several times a second and ends the command by returning false.
    pub(in crate::commands) fn run(
        &self,
        remote: &str,
        input: &str,
        mut line: impl FnMut(Stream, &str),
        mut pulse: impl FnMut() -> bool,
    ) -> Result<(), SshFailure> {
        let mut command = self.0.command(remote);
        command
            // Passwords and host keys are asked for on the terminal, not here.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = ChildGuard(command.spawn().map_err(|e| cannot_start(&e))?);
        if let Some(mut stdin) = child.0.stdin.take() {
            // Short enough for the pipe. That an ssh which has ended does not read it is not the
            // failure to tell of.
            _ = stdin.write_all(input.as_bytes());
        }
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.0.stdout.take() {
            read_lines(Stream::Stdout, stdout, sender.clone());
        }
        if let Some(stderr) = child.0.stderr.take() {
            read_lines(Stream::Stderr, stderr, sender);
        }
        let mut answer = String::new();
        let mut last_lines: Vec<String> = Vec::new();
        loop {
            if !pulse() {
                return Err(Failure::interrupted().into());
            }
            match lines.recv_timeout(PULSE) {
                Ok((stream, text)) => {
                    line(stream, &text);
                    if stream == Stream::Stdout && answer.len() < LONGEST_ANSWER {
                        answer.push_str(&text);
                        answer.push('\n');
                    }
                    if last_lines.len() == REPEATED_LINES {
                        last_lines.remove(0);
                    }
                    last_lines.push(text);
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
            Some(code @ (CONNECTION_FAILED | NOT_FOUND)) => {
                Err(self.explain(code, &last_lines).into())
            }
            Some(code) => Err(SshFailure::Command(FailedCommand {
                code,
                stdout: answer,
                last_lines,
            })),
            None => Err(Failure::new("ssh was ended by a signal")
                .said(&last_lines)
                .into()),
        }
    }

    /// What an exit code of ssh or of the shell means, with their words.
    fn explain(&self, code: i32, last_lines: &[String]) -> Failure {
        let device = self.0.address();
        let failure = if code == NOT_FOUND {
            Failure::new(format!("{device} has no avocadoctl")).hint(
                "is it the right device? `deploy` updates devices that run an image with avocadoctl",
            )
        } else {
            let fault = ConnectionFault::read(last_lines);
            let hint = match fault {
                ConnectionFault::Denied => {
                    "check the user, the key that ssh offers (--ssh-arg=-i --ssh-arg=<file>) and \
                     that the device accepts it"
                }
                other => other.hint(),
            };
            Failure::new(fault.of(device)).hint(hint)
        };
        failure.said(last_lines)
    }
}

fn cannot_start(error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => cannot_use(&SshError::Missing),
        _ => Failure::new("cannot start ssh").because(error),
    }
}

fn cannot_use(error: &SshError) -> Failure {
    Failure::from_error(error).maybe_hint(error.hint())
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
    fn long_output_comes_in_pieces() {
        let (sender, lines) = mpsc::channel();
        let text = format!("one\r\n\n{}\ntwo", "x".repeat(LONGEST_LINE as usize + 5));
        read_lines(Stream::Stderr, std::io::Cursor::new(text), sender);
        let lengths: Vec<usize> = lines.iter().map(|(_, line)| line.len()).collect();
        assert_eq!(lengths, [3, LONGEST_LINE as usize, 5, 3]);
    }
}
