//! Programs are called by argument vectors, and what they print is kept for the report.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::MemfdFlags;

use crate::Reason;

/// The most of a program's output that is kept, in bytes: the end of it.
const KEPT: u64 = 16 << 10;

/// A program has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) success: bool,
    /// How it ended, in words.
    pub(crate) status: String,
    /// What it printed on either stream.
    pub(crate) said: String,
}

/// Runs a program to its end. The output goes to memory rather than through a pipe, so that a
/// daemon that it leaves behind does not keep us waiting.
pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(program: &Path, args: &[S]) -> Result<Ended, Reason> {
    let no_tool = |source: std::io::Error| Reason::NoTool {
        program: program.display().to_string(),
        source,
    };
    let memory = || -> std::io::Result<File> {
        Ok(rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC)?.into())
    };
    let mut output = memory().map_err(no_tool)?;
    let stream = || output.try_clone().map(Stdio::from).map_err(no_tool);
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(stream()?)
        .stderr(stream()?)
        .status()
        .map_err(no_tool)?;
    Ok(Ended {
        success: status.success(),
        status: status.to_string(),
        said: tail(&mut output),
    })
}

/// As [`run`], where anything but success is an error.
pub(crate) fn must<S: AsRef<std::ffi::OsStr>>(program: &Path, args: &[S]) -> Result<Ended, Reason> {
    let ended = run(program, args)?;
    if ended.success {
        return Ok(ended);
    }
    let words = args.iter().map(|a| a.as_ref().to_string_lossy());
    let words: Vec<_> = std::iter::once(program.to_string_lossy())
        .chain(words)
        .collect();
    Err(Reason::Tool {
        command: words.join(" "),
        status: ended.status,
        said: ended.said,
    })
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
            run(Path::new("/nonexistent"), &none),
            Err(Reason::NoTool { .. })
        ));
    }

    #[test]
    fn a_daemon_left_behind_does_not_block() {
        let begun = std::time::Instant::now();
        let ended = run(Path::new("sh"), &["-c", "sleep 60 & echo $!"]).unwrap();
        assert!(begun.elapsed().as_secs() < 50);
        run(Path::new("kill"), &[&ended.said]).unwrap();
    }
}
