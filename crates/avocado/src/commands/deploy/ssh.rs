//! The ssh client: one command on the device, its lines as they come.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
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
/// How many bytes of standard output are kept: an error document is far shorter.
const LONGEST_ANSWER: usize = 256 * 1024;
/// The exit code by which ssh says that the failure is its own.
const OWN_FAILURE: i32 = 255;
/// The exit code by which a shell says that there is no such command.
const NOT_FOUND: i32 = 127;

/// How a device is reached.
pub(in crate::commands) struct Ssh<'a> {
    address: &'a Address,
    /// What the user adds to the command line.
    extra: &'a [String],
    configured: SshConfiguration,
}

/// What ssh would do with this address, as the user and the system have configured it.
#[derive(Debug, Default, PartialEq, Eq)]
struct SshConfiguration {
    /// The host that it would connect to: the configuration may give the name another meaning.
    host: Option<Host>,
    /// The options that we add, where nothing else is configured.
    ours: Vec<&'static str>,
}

/// What we want where ssh has its defaults: its name for an option, the default, and the option.
const DEFAULTS: [(&str, &str, &str); 2] = [
    ("connecttimeout", "none", "ConnectTimeout=10"),
    (
        "stricthostkeychecking",
        "ask",
        "StrictHostKeyChecking=accept-new",
    ),
];

impl SshConfiguration {
    /// From what `ssh -G` prints: `<name> <value>`, a line for each.
    fn read(text: &str) -> Self {
        let value = |name: &str| {
            let pairs = text.lines().filter_map(|line| line.split_once(' '));
            let mut named = pairs.filter(|(n, _)| *n == name);
            named.next().map(|(_, value)| value)
        };
        let is_default = |(name, default, _): &(&str, &str, &str)| {
            value(name).is_none_or(|value| value == *default)
        };
        let mut ours: Vec<&str> = DEFAULTS
            .iter()
            .filter(|d| is_default(d))
            .map(|d| d.2)
            .collect();
        // The token comes on the standard input.
        if value("stdinnull") == Some("yes") {
            ours.push("StdinNull=no");
        }
        SshConfiguration {
            host: value("hostname").and_then(|name| name.parse().ok()),
            ours,
        }
    }
}

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

impl<'a> Ssh<'a> {
    /// The way to `address`, after a look at what the user has configured for it.
    pub(in crate::commands) fn new(address: &'a Address, extra: &'a [String]) -> Result<Self> {
        let mut ssh = Ssh {
            address,
            extra,
            configured: SshConfiguration::default(),
        };
        let mut command = ssh.command();
        command.args(["-G", "--", address.host.as_str()]);
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
        ssh.configured = SshConfiguration::read(&String::from_utf8_lossy(&output.stdout));
        Ok(ssh)
    }

    /// The host that ssh would connect to.
    pub(in crate::commands) fn host(&self) -> &Host {
        self.configured.host.as_ref().unwrap_or(&self.address.host)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("ssh");
        // Of two values for one option ssh takes the first: the user's.
        command.args(self.extra);
        for option in &self.configured.ours {
            command.args(["-o", option]);
        }
        command.args(["-T"]);
        if let Some(port) = self.address.port {
            command.args(["-p", &port.to_string()]);
        }
        command.args(["-l", self.address.user.as_deref().unwrap_or(USER)]);
        command
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
        let mut command = self.command();
        command
            .args(["--", self.address.host.as_str(), remote])
            // Passwords and host keys are asked for on the terminal, not here.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = ChildGuard(command.spawn().map_err(cannot_start)?);
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
            Some(code @ (OWN_FAILURE | NOT_FOUND)) => Err(self.explain(code, &last_lines).into()),
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
    ///
    /// For its own failures ssh has one exit code, so what it printed decides between three hints,
    /// and between nothing else. (OpenSSH prints English in every locale.)
    fn explain(&self, code: i32, last_lines: &[String]) -> Failure {
        let device = self.address;
        let has = |text: &str| last_lines.iter().any(|line| line.contains(text));
        let failure = if code == NOT_FOUND {
            Failure::new(format!("{device} has no avocadoctl")).hint(
                "is it the right device? `deploy` updates devices that run an image with avocadoctl",
            )
        } else if has("Permission denied") {
            Failure::new(format!("{device} does not let us in")).hint(
                "check the user, the key that ssh offers (--ssh-arg=-i --ssh-arg=<file>) \
                 and that the device accepts it",
            )
        } else if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            Failure::new(format!("{device} has another host key than before"))
                .hint("where the device was set up again, forget the old key with `ssh-keygen -R`")
        } else {
            Failure::new(format!("cannot reach {device} over ssh"))
                .hint("check that the device is on and that its ssh server runs")
        };
        failure.said(last_lines)
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
            configured: SshConfiguration::default(),
        };
        for (code, said, message) in [
            (
                255,
                "root@dev: Permission denied (publickey).",
                "root@dev:2222 does not let us in",
            ),
            (
                255,
                "ssh: connect to host dev port 2222: No route to host",
                "cannot reach root@dev:2222 over ssh",
            ),
            (
                127,
                "sh: avocadoctl: not found",
                "root@dev:2222 has no avocadoctl",
            ),
        ] {
            let failure = ssh.explain(code, &[said.to_owned()]);
            assert_eq!(failure.message, message);
            assert_eq!(failure.causes, [said]);
        }
    }

    #[test]
    fn what_is_configured_comes_before_our_options() {
        let ours = |text: &str| SshConfiguration::read(text).ours;
        let (timeout, new_keys) = ("ConnectTimeout=10", "StrictHostKeyChecking=accept-new");
        let text = "user me\nhostname 10.0.0.2\nstricthostkeychecking ask\nconnecttimeout none\n";
        let read = SshConfiguration::read(text);
        assert_eq!(read.host, Some("10.0.0.2".parse().unwrap()));
        assert_eq!(read.ours, [timeout, new_keys]);
        // As the first versions print it.
        assert_eq!(ours(""), [timeout, new_keys]);
        for set in ["true", "false", "accept-new", "off"] {
            let text = format!("stricthostkeychecking {set}\nconnecttimeout none\n");
            assert_eq!(ours(&text), [timeout], "{set}");
        }
        assert_eq!(ours("connecttimeout 60\n"), [new_keys]);
        assert_eq!(ours("connecttimeout 60\nstdinnull no\n"), [new_keys]);
        let text = "connecttimeout 60\nstdinnull yes\n";
        assert_eq!(ours(text), [new_keys, "StdinNull=no"]);
    }

    #[test]
    fn what_the_user_adds_comes_first() {
        let address: Address = "dev:2222".parse().unwrap();
        let extra = ["-o".to_owned(), "StrictHostKeyChecking=yes".to_owned()];
        let ssh = Ssh {
            address: &address,
            extra: &extra,
            configured: SshConfiguration::read(""),
        };
        let command = ssh.command();
        let words: Vec<&str> = command.get_args().filter_map(|w| w.to_str()).collect();
        assert_eq!(
            words.join(" "),
            "-o StrictHostKeyChecking=yes -o ConnectTimeout=10 \
             -o StrictHostKeyChecking=accept-new -T -p 2222 -l root"
        );
    }

    #[test]
    fn long_output_comes_in_pieces() {
        let (sender, lines) = mpsc::channel();
        let text = format!("one\r\n\n{}\ntwo", "x".repeat(LONGEST_LINE as usize + 5));
        read_lines(Stream::Stderr, std::io::Cursor::new(text), sender);
        let lengths: Vec<usize> = lines.iter().map(|(_, line)| line.len()).collect();
        assert_eq!(lengths, [3, LONGEST_LINE as usize, 5, 3]);
    }
}
