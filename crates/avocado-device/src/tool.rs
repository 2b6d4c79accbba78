//! Programs are called by argument vectors, and what they print is kept for the report.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::error::FailureReason;

/// The most of a program's output that is kept, in bytes: the end of it.
const KEPT: u64 = 16 << 10;

/// A program has ended.
#[derive(Debug)]
pub(crate) struct ToolOutput {
    pub(crate) success: bool,
    /// How it ended, in words.
    pub(crate) status: String,
    /// What it printed on either stream.
    pub(crate) said: String,
}

/// How long a program of the system may run before it is killed.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// How long a program may take to end when it is asked to, before it has to.
const GRACE: Duration = Duration::from_secs(2);

/// Runs a program to its end. The output goes to memory rather than through a pipe, so that a
/// daemon that it leaves behind does not keep us waiting. After `limit` it is killed, with all that
/// it started.
pub(crate) fn run<S: AsRef<OsStr>>(
    program: &Path,
    args: &[S],
    limit: Duration,
) -> Result<ToolOutput, FailureReason> {
    let (ended, _) = run_with(program, args, limit)?;
    Ok(ended)
}

/// What a program of the system answers on its standard output, where it succeeds.
pub(crate) fn answer<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> Result<String, FailureReason> {
    let (ended, answer) = run_with(program, args, LIMIT)?;
    if ended.success {
        return Ok(answer);
    }
    Err(failed(program, args, ended))
}

/// As [`run`], and what it printed on its standard output alone.
fn run_with<S: AsRef<OsStr>>(
    program: &Path,
    args: &[S],
    limit: Duration,
) -> Result<(ToolOutput, String), FailureReason> {
    let no_tool = |source: io::Error| FailureReason::NoTool {
        program: program.display().to_string(),
        source,
    };
    let memory = || -> io::Result<File> {
        Ok(rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC)?.into())
    };
    let mut output = memory().map_err(no_tool)?;
    let mut errors = memory().map_err(no_tool)?;
    let stream = |file: &File| file.try_clone().map(Stdio::from).map_err(no_tool);
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(stream(&output)?)
        .stderr(stream(&errors)?)
        .process_group(0)
        .spawn()
        .map_err(no_tool)?;
    let in_time = ends_within(&mut child, limit);
    if !in_time {
        let group = Pid::from_child(&child);
        // It may end just now: then there is no process to kill.
        let _ = kill_process_group(group, Signal::TERM);
        ends_within(&mut child, GRACE);
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait().map_err(no_tool)?;
    let answer = tail(&mut output);
    let said = both(&answer, &tail(&mut errors));
    if !in_time {
        return Err(FailureReason::Timeout {
            command: words(program, args),
            seconds: limit.as_secs(),
            said,
        });
    }
    let ended = ToolOutput {
        success: status.success(),
        status: status.to_string(),
        said,
    };
    Ok((ended, answer))
}

fn both(answer: &str, errors: &str) -> String {
    let said = [answer, errors].into_iter().filter(|text| !text.is_empty());
    said.collect::<Vec<_>>().join("\n")
}

/// As [`run`], where anything but success is an error.
pub(crate) fn must_within<S: AsRef<OsStr>>(
    program: &Path,
    args: &[S],
    limit: Duration,
) -> Result<ToolOutput, FailureReason> {
    let ended = run(program, args, limit)?;
    if ended.success {
        return Ok(ended);
    }
    Err(failed(program, args, ended))
}

fn failed<S: AsRef<OsStr>>(program: &Path, args: &[S], ended: ToolOutput) -> FailureReason {
    FailureReason::Tool {
        command: words(program, args),
        status: ended.status,
        said: ended.said,
    }
}

/// As [`must_within`], for a program of the system.
pub(crate) fn must<S: AsRef<OsStr>>(
    program: &Path,
    args: &[S],
) -> Result<ToolOutput, FailureReason> {
    must_within(program, args, LIMIT)
}

fn words<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> String {
    let args = args.iter().map(|a| a.as_ref().to_string_lossy());
    let words: Vec<_> = std::iter::once(program.to_string_lossy())
        .chain(args)
        .collect();
    words.join(" ")
}

/// Waits for the end of a program, but does not collect it: its number stays its own.
fn ends_within(child: &mut Child, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let left = || deadline.saturating_duration_since(Instant::now());
    let Ok(process) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else {
        // A kernel before 5.3.
        while !left().is_zero() {
            if !matches!(child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        return false;
    };
    loop {
        let timeout = Timespec::try_from(left()).ok();
        match poll(
            &mut [PollFd::new(&process, PollFlags::IN)],
            timeout.as_ref(),
        ) {
            Ok(0) => return false,
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}

fn tail(output: &mut File) -> String {
    let mut bytes = Vec::new();
    let length = output.metadata().map_or(0, |m| m.len());
    let start = SeekFrom::Start(length.saturating_sub(KEPT));
    if output.seek(start).is_ok() {
        let _ = output.take(KEPT).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_said_is_kept() {
        let ended = must(Path::new("echo"), &["a", "b"]).unwrap();
        assert_eq!(ended.said, "a b");
        let error = must(Path::new("ls"), &["/nonexistent"]).unwrap_err();
        assert!(
            error.to_string().contains("ls /nonexistent failed"),
            "{error}"
        );
        assert!(error.to_string().contains("No such file"), "{error}");
        let none: [&str; 0] = [];
        assert!(matches!(
            run(Path::new("/nonexistent"), &none, LIMIT),
            Err(FailureReason::NoTool { .. })
        ));
    }

    #[test]
    fn a_daemon_left_behind_does_not_block() {
        let begun = Instant::now();
        let ended = must(Path::new("sh"), &["-c", "sleep 60 & echo $!"]).unwrap();
        assert!(begun.elapsed().as_secs() < 50);
        must(Path::new("kill"), &[&ended.said]).unwrap();
    }

    #[test]
    fn what_hangs_is_killed_with_its_children() {
        // It does not end when it is asked to, either.
        let script = "trap '' TERM; echo before; sleep 1000 & wait; wait";
        let args = ["-c", script];
        let error = run(Path::new("sh"), &args, Duration::from_millis(100)).unwrap_err();
        let FailureReason::Timeout { command, said, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(command.starts_with("sh -c trap"), "{command}");
        assert_eq!(said, "before");
    }
}
