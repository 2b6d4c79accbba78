//! A shell in the guest that stays: one greeting, many commands.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::HarnessError;
use crate::cleanup::CleanupGuard;
use crate::error::file;

/// What tells the end of a command's output.
const MARK: &str = "=-=-=";

/// The shell. It ends when this is dropped.
#[derive(Debug)]
pub struct GuestSession {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    child: std::process::Child,
    _guard: CleanupGuard,
}

/// What a command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandAnswer {
    /// Its exit code.
    pub code: i32,
    /// What it said, on stdout and stderr.
    pub text: String,
}

/// Two clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct GuestClocks {
    /// The host's, before and after.
    pub host: (SystemTime, SystemTime),
    /// The guest's, read in between.
    pub guest: SystemTime,
}

impl GuestClocks {
    /// How wrong the guest's clock is at least: it was read at some moment between the two.
    pub fn error(&self) -> Duration {
        let (before, after) = self.host;
        let slow = before.duration_since(self.guest);
        let fast = self.guest.duration_since(after);
        slow.or(fast).unwrap_or_default()
    }

    /// How uncertain that is.
    pub fn uncertainty(&self) -> Duration {
        let (before, after) = self.host;
        after.duration_since(before).unwrap_or_default()
    }
}

impl GuestSession {
    /// Opens it with a configuration of ssh that names `avocado-vm`, through this port.
    pub(super) fn open(config: &Path, port: &str) -> Result<Self, HarnessError> {
        let mut child = Command::new("ssh")
            .arg("-F")
            .arg(config)
            .args(["-p", port, "-T", "avocado-vm", "exec bash 2>&1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|source| HarnessError::Start {
                command: "ssh".into(),
                source,
            })?;
        let group = Pid::from_child(&child);
        let guard = CleanupGuard::new(move || {
            let _ = kill_process_group(group, Signal::KILL);
        })?;
        let broken =
            || file("talk to", "ssh")(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let input = child.stdin.take().ok_or_else(broken)?;
        let output = child.stdout.take().ok_or_else(broken)?;
        let mut session = GuestSession {
            input,
            output: BufReader::new(output).lines(),
            child,
            _guard: guard,
        };
        session.run("true")?;
        Ok(session)
    }

    /// Runs a line of shell.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn run(&mut self, line: &str) -> Result<CommandAnswer, HarnessError> {
        let failed = |source| file("talk to the guest over", "ssh")(source);
        let line = format!("{line}\necho; echo {MARK} $?\n");
        self.input.write_all(line.as_bytes()).map_err(failed)?;
        let mut text = String::new();
        for said in &mut self.output {
            let said = said.map_err(failed)?;
            if let Some(code) = said.strip_prefix(MARK) {
                // The line that the mark is kept apart with is not the command's.
                let text = text.strip_suffix('\n').unwrap_or(&text);
                return Ok(CommandAnswer {
                    code: code.trim().parse().unwrap_or(-1),
                    text: text.trim_end_matches('\n').to_owned(),
                });
            }
            text.push_str(&said);
            text.push('\n');
        }
        let end = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, text);
        Err(failed(end))
    }

    /// Runs a line that has to succeed; answers with what it said.
    ///
    /// # Errors
    /// It failed, or the connection is gone.
    pub fn ok(&mut self, line: &str) -> Result<String, HarnessError> {
        let said = self.run(line)?;
        if said.code == 0 {
            return Ok(said.text);
        }
        let text = format!("`{line}` in the guest: code {}: {}", said.code, said.text);
        Err(file("use", "the guest")(std::io::Error::other(text)))
    }

    /// Reads both clocks, as close together as it gets in `tries`.
    ///
    /// # Errors
    /// The connection is gone, or the guest's shell has no clock.
    pub fn clocks(&mut self, tries: usize) -> Result<GuestClocks, HarnessError> {
        let mut best: Option<GuestClocks> = None;
        for _ in 0..tries.max(1) {
            let before = SystemTime::now();
            let said = self.ok("echo $EPOCHREALTIME")?;
            let after = SystemTime::now();
            let seconds: f64 = said.trim().parse().unwrap_or_default();
            let found = GuestClocks {
                host: (before, after),
                guest: UNIX_EPOCH + Duration::from_secs_f64(seconds),
            };
            if best.is_none_or(|best| found.uncertainty() < best.uncertainty()) {
                best = Some(found);
            }
        }
        best.ok_or(HarnessError::Ending)
    }

    /// Waits until the connection ends; says whether it did within `limit`.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for GuestSession {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
