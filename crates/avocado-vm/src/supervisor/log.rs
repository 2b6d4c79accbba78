//! The supervisor's log: what happened to the VM and why, in lines with times. Bounded.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

/// The size at which the older part is dropped.
const LIMIT: u64 = 1 << 20;
/// How much is kept then.
const KEPT: u64 = LIMIT / 2;

/// A log; a cloneable handle. What cannot be written is lost: nothing depends on it.
#[derive(Debug, Clone)]
pub(crate) struct SupervisorLog(Option<Arc<Mutex<File>>>);

impl SupervisorLog {
    /// The log in this file, which other descriptors may append to as well.
    pub(crate) fn open(path: &Path) -> SupervisorLog {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let log = SupervisorLog(options.open(path).ok().map(|f| Arc::new(Mutex::new(f))));
        log.with(trim);
        log
    }

    /// Writes a line.
    pub(crate) fn line(&self, text: &str) {
        let now = now();
        // One line, whatever is in it: each has a time.
        let text = text.trim().replace('\n', "\n    ");
        self.with(|file| {
            file.write_all(format!("{now} {text}\n").as_bytes())?;
            trim(file)
        });
    }

    fn with(&self, act: impl FnOnce(&mut File) -> std::io::Result<()>) {
        if let Some(file) = &self.0 {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = act(&mut file);
        }
    }
}

/// Now, RFC 3339 in UTC, to the millisecond.
pub(crate) fn now() -> String {
    let now = Timestamp::now();
    format!("{now:.3}")
}

/// Drops the older part of a log that is too long. In place: other processes that have it open
/// append to it.
fn trim(file: &mut File) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    if length <= LIMIT {
        return Ok(());
    }
    file.seek(SeekFrom::Start(length - KEPT))?;
    let mut tail = Vec::new();
    file.take(KEPT).read_to_end(&mut tail)?;
    let line = tail
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    file.set_len(0)?;
    file.write_all(tail.get(line..).unwrap_or_default())
}

/// The last `count` lines of a file, as far as they are in its last 64 KiB; empty where there is
/// none.
pub(crate) fn last_lines(path: &Path, count: usize) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(64 << 10)))?;
        let mut bytes = Vec::new();
        file.take(64 << 10).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let start = lines.len().saturating_sub(count);
    lines
        .get(start..)
        .unwrap_or_default()
        .join("\n")
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_bounded_and_whole() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let log = SupervisorLog::open(&path);
        let text = "x".repeat(1000);
        for n in 0..3000 {
            log.line(&format!("{n} {text}"));
        }
        log.line("last\nword");
        let read = std::fs::read_to_string(&path).unwrap();
        assert!((KEPT / 2..=LIMIT).contains(&(read.len() as u64)));
        assert!(read.ends_with(" last\n    word\n"));
        for line in read.lines().filter(|line| !line.starts_with("    ")) {
            let (time, _) = line.split_once(' ').unwrap();
            assert!(
                time.ends_with('Z') && time.parse::<Timestamp>().is_ok(),
                "{line}"
            );
        }
        assert!(read.contains(" 2999 x"));
        assert!(!read.contains(" 1000 x"));
        assert_eq!(last_lines(&path, 2).lines().count(), 2);
        assert_eq!(last_lines(&place.path().join("none"), 2), "");
    }
}
