//! One tool, started inside a job.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use avocado_events::{Cancel, Event, Sink};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::capabilities;
use crate::parent_death::{die_with_parent, in_own_session};
use crate::terminal::{HeldSignals, heed_interrupts};

/// How often it is looked whether a tool is to stop.
const CANCEL_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// How many of a tool's last lines an error keeps.
const KEPT_LINES: usize = 30;

/// A tool to run: an argument vector, never a shell line.
#[derive(Debug)]
pub struct Tool {
    name: String,
    command: Command,
    may_mount: bool,
    /// Where all that it says goes, byte for byte.
    log: Option<File>,
    cancel: Option<Cancel>,
    /// What it reads on its standard input.
    input: Vec<u8>,
}

/// A tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error("cannot start `{tool}`")]
    Start {
        /// The tool's name.
        tool: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It said no.
    #[error("`{tool}` failed ({status}){}", quote(telling(output)))]
    Failed {
        /// The tool's name.
        tool: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines; the message has those of them that tell why.
        output: Vec<String>,
    },
    /// Its output could not be read.
    #[error("lost contact with `{tool}`")]
    Lost {
        /// The tool's name.
        tool: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ToolError {
    /// Whether the tool's last lines have these words of its own. Only one who knows the tool can
    /// make something of them.
    pub fn says(&self, words: &str) -> bool {
        match self {
            ToolError::Failed { output, .. } => output.iter().any(|line| line.contains(words)),
            _ => false,
        }
    }
}

/// What a tool said last: from its last line about an error on, or a few lines. All of it was
/// reported while the tool ran.
fn telling(lines: &[String]) -> &[String] {
    let error = lines.iter().rposition(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with("error") || line.contains("error:")
    });
    let start = error.unwrap_or(lines.len().saturating_sub(3));
    lines.get(start..).unwrap_or_default()
}

fn quote(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n    {line}")).collect()
}

impl Tool {
    /// A tool by its name on PATH, or by its path.
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        let name = name.as_ref();
        let mut command = Command::new(name);
        command.stdin(Stdio::null());
        die_with_parent(&mut command);
        Tool {
            name: name.to_string_lossy().into_owned(),
            command,
            may_mount: false,
            log: None,
            cancel: None,
            input: Vec::new(),
        }
    }

    /// Ends the tool, and all that it started, where `cancel` asks to stop. It has no terminal.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: &Cancel) -> Self {
        in_own_session(&mut self.command);
        self.cancel = Some(cancel.clone());
        self
    }

    /// Leaves the tool what a job may do with its own mounts: by them it could leave what the job
    /// is to see.
    pub(crate) fn may_mount(mut self) -> Self {
        self.may_mount = true;
        self
    }

    /// What errors call the tool, where that is not the program that is started.
    #[must_use]
    pub fn called(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Keeps from the tool what a terminal sends to everything that runs in it, such as Ctrl-C.
    #[must_use]
    pub(crate) fn out_of_process_group(mut self) -> Self {
        self.command.process_group(0);
        self
    }

    /// Keeps all that the tool says in a file, byte for byte.
    #[must_use]
    pub fn log_to(mut self, file: File) -> Self {
        self.log = Some(file);
        self
    }

    /// Gives the tool these bytes on its standard input, where there is nothing otherwise. One that ends
    /// without having read them says so by its status.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Sets one variable of the tool's environment.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Takes away everything of the environment that was not set here.
    #[must_use]
    pub fn clear_environment(mut self) -> Self {
        self.command.env_clear();
        self
    }

    /// Sets the directory that the tool starts in.
    #[must_use]
    pub fn current_dir(mut self, dir: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs the tool; its lines become output events.
    ///
    /// # Errors
    /// When it cannot be started or does not end with 0; the error keeps its last lines.
    pub fn run(self, sink: &dyn Sink) -> Result<(), ToolError> {
        self.capture(sink, StandardOutput::Reported).map(drop)
    }

    /// Runs the tool and returns its standard output; only its standard error becomes events.
    ///
    /// # Errors
    /// As [`Tool::run`].
    pub fn read(self, sink: &dyn Sink) -> Result<String, ToolError> {
        self.capture(sink, StandardOutput::Lines)
    }

    /// The same with every blank in it: empty lines, and what is at the end of a line.
    ///
    /// # Errors
    /// As [`Tool::run`].
    pub fn read_text(self, sink: &dyn Sink) -> Result<String, ToolError> {
        self.capture(sink, StandardOutput::Text)
    }

    /// As [`Tool::read_text`], where the tool has more than one way to say yes: also answers its exit
    /// status, which is one of `statuses`.
    ///
    /// # Errors
    /// As [`Tool::run`].
    pub fn answer(self, statuses: &[i32], sink: &dyn Sink) -> Result<(i32, String), ToolError> {
        self.end(sink, StandardOutput::Text, statuses)
    }

    fn capture(self, sink: &dyn Sink, output: StandardOutput) -> Result<String, ToolError> {
        self.end(sink, output, &[0]).map(|(_, text)| text)
    }

    fn end(
        mut self,
        sink: &dyn Sink,
        output: StandardOutput,
        statuses: &[i32],
    ) -> Result<(i32, String), ToolError> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if !self.input.is_empty() {
            self.command.stdin(Stdio::piped());
        }
        if crate::worker::is_worker() && !self.may_mount {
            capabilities::limit(&mut self.command);
        }
        crate::worker::count_spawn();
        let mut child = self.command.spawn().map_err(|source| ToolError::Start {
            tool: self.name.clone(),
            source,
        })?;
        let (log, cancel) = (self.log.as_ref(), self.cancel.as_ref());
        let ended = thread::scope(|scope| {
            if let Some(mut stdin) = child.stdin.take() {
                let input = &self.input;
                // A tool that closes its input early has a status of its own for that.
                scope.spawn(move || _ = stdin.write_all(input));
            }
            collect(&mut child, sink, output, log, cancel)
        });
        let (status, stdout, last_lines) = ended.map_err(|source| ToolError::Lost {
            tool: self.name.clone(),
            source,
        })?;
        if let Some(code) = status.code().filter(|code| statuses.contains(code)) {
            return Ok((code, stdout));
        }
        Err(ToolError::Failed {
            tool: self.name,
            status,
            output: last_lines.into(),
        })
    }

    /// Runs it with these as its standard input, output and error.
    pub(crate) fn run_at(
        mut self,
        streams: [OwnedFd; 3],
        hands_on_signals: bool,
    ) -> Result<ExitStatus, ToolError> {
        let [stdin, stdout, stderr] = streams;
        self.command.stdin(stdin).stdout(stdout).stderr(stderr);
        heed_interrupts(&mut self.command);
        if crate::worker::is_worker() {
            capabilities::limit(&mut self.command);
        }
        crate::worker::count_spawn();
        let mut run = || {
            let held = hands_on_signals.then(HeldSignals::hold).transpose()?;
            let mut child = self.command.spawn()?;
            let _forwarder = held.map(|held| held.hand_to(&child)).transpose()?;
            child.wait()
        };
        let ended = run().map_err(|source| ToolError::Start {
            tool: self.name.clone(),
            source,
        });
        crate::worker::end_leftovers();
        ended
    }

    /// The argument vector, for messages.
    pub fn command_line(&self) -> Vec<OsString> {
        std::iter::once(self.command.get_program())
            .chain(self.command.get_args())
            .map(OsStr::to_owned)
            .collect()
    }
}

/// What becomes of a tool's standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StandardOutput {
    /// Events.
    Reported,
    /// Kept, but for empty lines and what is blank at the end of one.
    Lines,
    /// Kept as it is.
    Text,
}

/// Waits for the tool and reads both of its streams: standard output as a whole and the last lines
/// of both.
fn collect(
    child: &mut Child,
    sink: &dyn Sink,
    stdout_is: StandardOutput,
    log: Option<&File>,
    cancel: Option<&Cancel>,
) -> io::Result<(ExitStatus, String, VecDeque<String>)> {
    let missing = || io::Error::other("the tool has no output streams");
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let report = |line: &str| {
        if !line.is_empty() {
            sink.emit(Event::output("", line));
        }
    };
    thread::scope(|scope| {
        let errors = scope.spawn(|| read_lines(stderr, log, |line, _| report(line)));
        let output = scope.spawn(|| {
            let mut text = String::new();
            let last = read_lines(stdout, log, |line, whole| match stdout_is {
                StandardOutput::Reported => report(line),
                StandardOutput::Lines if line.is_empty() => {}
                StandardOutput::Lines => text.extend([line, "\n"]),
                StandardOutput::Text => text.push_str(whole),
            });
            last.map(|last| (text, last))
        });
        if let Some(cancel) = cancel {
            end_where_cancelled(child, cancel);
        }
        let status = child.wait();
        // Before the streams are waited for: they end when the last holder does.
        crate::worker::end_leftovers();
        let stopped = |_| io::Error::other("a reader stopped");
        let (text, mut last) = output.join().map_err(stopped)??;
        let error_lines = errors.join().map_err(stopped)??;
        if stdout_is != StandardOutput::Reported {
            last.clear();
        }
        last.extend(error_lines);
        Ok((status?, text, last))
    })
}

/// Waits for the end of a tool with a session of its own, or brings it about.
fn end_where_cancelled(child: &Child, cancel: &Cancel) {
    let tool = Pid::from_child(child);
    // Without a handle (before Linux 5.3) there is nothing to wait for that leaves its number taken.
    let Ok(handle) = pidfd_open(tool, PidfdFlags::empty()) else {
        return;
    };
    loop {
        if cancel.is_cancelled() {
            // It may have ended by now, which is as good.
            let _ = kill_process_group(tool, Signal::KILL);
            return;
        }
        let mut ended = [PollFd::new(&handle, PollFlags::IN)];
        if !matches!(
            poll(&mut ended, Some(&CANCEL_INTERVAL)),
            Ok(0) | Err(Errno::INTR)
        ) {
            return;
        }
    }
}

/// Gives each line to `each`, without what is blank at its end and as it is.
fn read_lines(
    stream: impl Read,
    log: Option<&File>,
    mut each: impl FnMut(&str, &str),
) -> io::Result<VecDeque<String>> {
    let mut last = VecDeque::new();
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(last);
        }
        if let Some(mut log) = log {
            // Lines of both streams, each whole.
            log.write_all(&bytes)?;
        }
        let whole = String::from_utf8_lossy(&bytes);
        let line = whole.trim_end();
        each(line, &whole);
        if line.is_empty() {
            continue;
        }
        if last.len() == KEPT_LINES {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use avocado_events::Silent;

    #[test]
    fn a_failure_keeps_what_the_tool_said() {
        let error = Tool::new("ls")
            .arg("/no/such/place")
            .env("LC_ALL", "C")
            .run(&Silent)
            .unwrap_err()
            .to_string();
        assert!(error.contains("`ls` failed"), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn an_error_has_the_lines_that_tell_why() {
        let lines = |text: &str| text.lines().map(ToOwned::to_owned).collect::<Vec<_>>();
        for (said, kept) in [
            ("a\nb\nError: x\n  y", "Error: x\n  y"),
            ("Error: 1\nError: 2", "Error: 2"),
            ("1\n2\n3\n4", "2\n3\n4"),
            ("mkfs: error: full\nmore", "mkfs: error: full\nmore"),
            ("", ""),
        ] {
            assert_eq!(telling(&lines(said)), lines(kept), "{said}");
        }
    }

    #[test]
    fn a_log_has_every_byte_of_both_streams() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        std::fs::write(&script, "printf 'a\\n\\n  \\377 b'\nprintf 'c\\n' >&2\n").unwrap();
        let path = directory.path().join("log");
        let log = File::create(&path).unwrap();
        let tool = Tool::new("bash").arg(&script).log_to(log);
        tool.run(&Silent).unwrap();
        let mut lines: Vec<Vec<u8>> = std::fs::read(&path)
            .unwrap()
            .split_inclusive(|b| *b == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        lines.sort();
        let joined = lines.concat();
        assert_eq!(joined.len(), b"a\n\n  \xff bc\n".len(), "{joined:?}");
        assert!(joined.contains(&0xff));
    }

    #[test]
    fn a_missing_tool_is_named() {
        let error = Tool::new("no-such-tool-anywhere").run(&Silent).unwrap_err();
        assert_eq!(error.to_string(), "cannot start `no-such-tool-anywhere`");
    }

    #[test]
    fn input_larger_than_a_pipe_is_read_or_not() {
        let input = "x".repeat(1 << 20);
        let read = Tool::new("cat").input(input.clone()).read_text(&Silent);
        assert!(read.unwrap() == input);
        let unread = Tool::new("true").input(input).read_text(&Silent);
        assert_eq!(unread.unwrap(), "");
    }

    #[test]
    fn output_is_read_or_reported() {
        assert_eq!(Tool::new("echo").arg("hi").read(&Silent).unwrap(), "hi\n");
        let blanks = || Tool::new("printf").arg("a \\n\\n \\nb");
        assert_eq!(blanks().read(&Silent).unwrap(), "a\nb\n");
        assert_eq!(blanks().read_text(&Silent).unwrap(), "a \n\n \nb");
        let seen = std::sync::Mutex::new(Vec::new());
        let sink = |e: Event| seen.lock().unwrap().push(e.message);
        Tool::new("echo").arg("hi").run(&sink).unwrap();
        assert_eq!(*seen.lock().unwrap(), ["hi"]);
    }
}
