//! The other machine: the connection to it, and our own program there.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use avocado_events::{Cancel, Event, Sink};
use avocado_fs::AtPath as _;
use avocado_manifest::Digest;
use avocado_ssh::{CONNECTION_FAILED, SshAddress, SshClient, SshControl, quote};

use super::facts::{RemoteFacts, RootAccess};
use crate::BackendError;
use crate::parent_death::die_with_parent;
use crate::terminal::ignore_interrupts;

/// Run by a shell there.
const PROBE: &str = include_str!("probe.sh");
const SEND: &str = include_str!("send.sh");

/// How often it is looked whether to stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How another machine is reached.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// The machine.
    pub address: SshAddress,
    /// Our own program, which is sent there: it has to be a static one, or one for whose libraries that
    /// machine has the same.
    pub program: PathBuf,
    /// A directory for temporary files, with a short path without spaces.
    pub temporary: PathBuf,
}

/// How that machine and this one see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteRoute {
    /// The address of this machine from which that one is reached.
    pub listen: IpAddr,
    /// The address of that machine as this one sees it.
    pub client: IpAddr,
    /// The address of this machine as that one sees it.
    pub advertised: IpAddr,
}

impl RemoteRoute {
    /// `ends` are those of the connection as the other machine sees them, this machine's first.
    fn new(ends: (IpAddr, IpAddr), known: &[IpAddr]) -> io::Result<Self> {
        let (advertised, theirs) = ends;
        // One that both sides agree on, where there is such a one.
        let client = known.iter().find(|ip| **ip == theirs);
        let client = client.or_else(|| known.first());
        let client = *client.ok_or_else(|| io::Error::other("the name has no address"))?;
        Ok(RemoteRoute {
            listen: local_end(client)?,
            client,
            advertised,
        })
    }

    /// Whether something between the machines gives them other addresses, and so other ports.
    #[must_use]
    pub fn is_translated(&self, host: &RemoteHost) -> bool {
        let theirs = host.facts.connection.map(|(_, theirs)| theirs);
        self.listen != self.advertised || theirs != Some(self.client)
    }
}

/// A machine that is ready for steps. The connection ends with this value.
#[derive(Debug)]
pub struct RemoteHost {
    control: SshControl,
    facts: RemoteFacts,
    root: RootAccess,
    _directory: tempfile::TempDir,
}

impl RemoteHost {
    /// Connects, looks whether steps can run there, and sends our program if it is not there yet. To be
    /// called from a thread that lives as long as the value: the connection ends with it.
    ///
    /// # Errors
    /// There is no connection, or that machine cannot run steps.
    pub fn connect(
        options: &RemoteOptions,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<Self, BackendError> {
        let directory = tempfile::Builder::new()
            .prefix("avocado-")
            .tempdir_in(&options.temporary);
        let directory = directory.at("make a directory in", &options.temporary)?;
        let client = SshClient::new(options.address.clone(), &[], None)?;
        refuse_indirect(&client)?;
        let prepare = |command: &mut Command| {
            die_with_parent(command);
            // What is interrupted is this program, which ends the connection when all is done.
            ignore_interrupts(command);
        };
        let goes_on = || !cancel.is_cancelled();
        let control = SshControl::open(client, directory.path(), prepare, goes_on);
        let control = control.map_err(|error| match error {
            _ if cancel.is_cancelled() => BackendError::Cancelled,
            error => error.into(),
        })?;
        let (digest, size) = digest(&options.program)?;
        let facts = probe(&control, &digest, cancel)?;
        let root = facts.check(&options.address.to_string())?;
        let host = RemoteHost {
            control,
            facts,
            root,
            _directory: directory,
        };
        if !host.facts.has_program {
            sink.emit(Event::info(format!(
                "sending this program to {} ({} KiB), once for each version",
                host.name(),
                size.div_ceil(1024)
            )));
            host.send(&options.program, &digest, cancel)?;
        }
        Ok(host)
    }

    /// As the user named it.
    #[must_use]
    pub fn name(&self) -> String {
        self.control.client().address().to_string()
    }

    /// How it and this machine see each other.
    ///
    /// # Errors
    /// They do not, but for ssh.
    pub fn route(&self) -> Result<RemoteRoute, BackendError> {
        let client = self.control.client();
        let unseen = |why: String| unseen(client, &why);
        let ends = self.facts.connection;
        let ends =
            ends.ok_or_else(|| unseen("its ssh server sets no SSH_CONNECTION".to_owned()))?;
        let host = client.host().as_str();
        // The port plays no part.
        let known = (host, 9).to_socket_addrs();
        let known = known.map_err(|error| unseen(format!("{host}: {error}")))?;
        let known: Vec<IpAddr> = known.map(|address| address.ip()).collect();
        RemoteRoute::new(ends, &known).map_err(|error| unseen(format!("{host}: {error}")))
    }

    /// ssh that starts our program there, as root, to do a job.
    pub(super) fn step(&self) -> Command {
        let program = quote(&self.facts.program);
        let words = match self.root {
            RootAccess::IsRoot => format!("exec {program} step"),
            RootAccess::Sudo => format!("exec sudo -n {program} step"),
        };
        self.control.command(&words)
    }

    fn send(&self, program: &Path, digest: &str, cancel: &Cancel) -> Result<(), BackendError> {
        let file = File::open(program).at("open", program)?;
        let words = format!("sh -c {} send {digest}", quote(SEND));
        let mut command = self.control.command(&words);
        command.stdin(file);
        ended_well(
            &self.control,
            run(command, None, cancel)?,
            "keep a copy of this program",
        )
        .map(drop)
    }
}

fn unseen(client: &SshClient, why: &str) -> BackendError {
    BackendError::Remote {
        host: client.address().to_string(),
        action: "be told where this machine is".to_owned(),
        said: format!(": {why}"),
    }
}

/// Where files have to come another way than by ssh, there is nothing to connect for.
fn refuse_indirect(client: &SshClient) -> Result<(), BackendError> {
    if client.is_indirect() {
        return Err(unseen(
            client,
            "ssh gets there by way of another machine, and NFS has to get from there to here directly",
        ));
    }
    Ok(())
}

fn probe(control: &SshControl, digest: &str, cancel: &Cancel) -> Result<RemoteFacts, BackendError> {
    let command = control.command(&format!("sh -s {digest}"));
    let output = run(command, Some(PROBE), cancel)?;
    let output = ended_well(control, output, "say what it is")?;
    Ok(RemoteFacts::read(&output))
}

/// Runs ssh with its output caught, and `input` to read if there is some, unless it is to stop.
fn run(mut command: Command, input: Option<&str>, cancel: &Cancel) -> Result<Output, BackendError> {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    die_with_parent(&mut command);
    let start = |source| BackendError::Start {
        program: "ssh".into(),
        source,
    };
    let mut child = command.spawn().map_err(start)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // Short enough for the pipe. That ssh has ended is told by its status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let stdout = collected(child.stdout.take());
    let stderr = collected(child.stderr.take());
    let mut caught = Vec::new();
    for output in [stdout, stderr] {
        loop {
            match output.recv_timeout(LOOK_INTERVAL) {
                Ok(bytes) => break caught.push(bytes),
                Err(RecvTimeoutError::Timeout) if !cancel.is_cancelled() => {}
                Err(_) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(BackendError::Cancelled);
                }
            }
        }
    }
    let status = child.wait().map_err(start)?;
    let stderr = caught.pop().unwrap_or_default();
    let stdout = caught.pop().unwrap_or_default();
    Ok(Output {
        status,
        stdout,
        stderr,
    })
}

/// Reads to the end, in a thread of its own.
fn collected(from: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What cannot be read is not told.
            let _ = from.read_to_end(&mut bytes);
        }
        // Nobody listens any more where it was stopped.
        let _ = sender.send(bytes);
    });
    receiver
}

/// What it printed, if it ended well.
fn ended_well(control: &SshControl, output: Output, action: &str) -> Result<String, BackendError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let host = control.client().address().to_string();
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = said.lines().filter(|line| !line.trim().is_empty());
    let said: String = lines
        .map(|line| format!("\n    {}", line.trim_end()))
        .collect();
    Err(match output.status.code() {
        Some(CONNECTION_FAILED) => BackendError::RemoteLost { host, said },
        _ => BackendError::Remote {
            host,
            action: action.to_owned(),
            said,
        },
    })
}

/// The digest of the program, and its size in bytes.
fn digest(program: &Path) -> Result<(String, u64), BackendError> {
    let file = File::open(program).at("open", program)?;
    let (digest, size) = Digest::of_reader(file).at("read", program)?;
    Ok((digest.to_string(), size))
}

/// The address that packets to `ip` would come from. Connecting a datagram socket asks the kernel for the
/// route and sends nothing.
fn local_end(ip: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(SocketAddr::new(ip, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_answer_can_be_stopped() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo begins; exec sleep 3600"]);
        let cancel = Cancel::new();
        let stop = cancel.clone();
        std::thread::spawn(move || stop.cancel());
        let error = run(command, None, &cancel).unwrap_err();
        assert!(matches!(error, BackendError::Cancelled), "{error:?}");
        let mut command = Command::new("sh");
        command.args(["-c", "cat; echo wrong >&2; exit 3"]);
        let output = run(command, Some("text"), &Cancel::new()).unwrap();
        assert_eq!(
            (output.stdout, output.stderr),
            (b"text".to_vec(), b"wrong\n".to_vec())
        );
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn the_address_that_both_sides_know_is_let_in() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let ends = (ip("127.0.0.1"), ip("127.0.0.2"));
        let known = [ip("127.0.0.3"), ip("127.0.0.2")];
        let route = RemoteRoute::new(ends, &known).unwrap();
        assert_eq!(route.client, ip("127.0.0.2"));
        assert_eq!(route.listen, ip("127.0.0.1"));
        // Behind something that translates addresses there is none.
        let ends = (ip("10.0.2.2"), ip("10.0.2.15"));
        let route = RemoteRoute::new(ends, &known).unwrap();
        assert_eq!(route.client, ip("127.0.0.3"));
        assert_eq!(route.advertised, ip("10.0.2.2"));
        assert!(RemoteRoute::new(ends, &[]).is_err());
    }

    #[test]
    fn scripts_for_the_other_side_survive_any_quoting() {
        for script in [PROBE, SEND] {
            assert!(
                !script.contains('\''),
                "a quotation mark that shells differ about"
            );
            let checked = Command::new("sh").args(["-n", "-c", script]).status();
            assert!(checked.unwrap().success());
        }
    }
}
