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
    trim_to(file, LIMIT, KEPT, "")
}

/// The same with another limit. `note` is what takes the place of the older part.
fn trim_to(file: &mut File, limit: u64, kept: u64, note: &str) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    if length <= limit {
        return Ok(());
    }
    file.seek(SeekFrom::Start(length.saturating_sub(kept)))?;
    let mut tail = Vec::new();
    file.take(kept).read_to_end(&mut tail)?;
    let line = tail
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    file.set_len(0)?;
    file.write_all(note.as_bytes())?;
    file.write_all(tail.get(line..).unwrap_or_default())
}

/// The size at which the older part of a console is dropped.
const CONSOLE_LIMIT: u64 = 8 << 20;
/// What takes the place of it.
const CONSOLE_NOTE: &str = "[the older part of this log was dropped]\n";

/// Drops the older part of the guest's console if it is too long. QEMU goes on appending to it.
pub(crate) fn bound_console(path: &Path) {
    let mut options = OpenOptions::new();
    let length = std::fs::metadata(path).map_or(0, |found| found.len());
    if length > CONSOLE_LIMIT
        && let Ok(mut file) = options.read(true).append(true).open(path)
    {
        let _ = trim_to(&mut file, CONSOLE_LIMIT, CONSOLE_LIMIT / 2, CONSOLE_NOTE);
    }
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
    fn a_console_is_bounded_while_it_is_written() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("serial.log");
        bound_console(&path);
        assert!(!path.exists());
        let mut options = OpenOptions::new();
        // As QEMU has it.
        let mut console = options.append(true).create(true).open(&path).unwrap();
        let line = format!("{}\n", "x".repeat(999));
        for n in 0..3 {
            console.write_all(line.repeat(9000).as_bytes()).unwrap();
            bound_console(&path);
            console.write_all(format!("last {n}\n").as_bytes()).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!((text.len() as u64) < CONSOLE_LIMIT, "{}", text.len());
            assert!(text.starts_with(CONSOLE_NOTE));
            assert!(text.ends_with(&format!("{line}last {n}\n")));
            assert!(
                text.lines()
                    .skip(1)
                    .all(|line| line.len() == 999 || line.starts_with("last"))
            );
        }
    }

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
