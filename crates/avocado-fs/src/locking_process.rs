//! The process behind a lock, from what the kernel lists.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The longest command line that is told.
const LONGEST: usize = 80;

/// A process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockingProcess {
    /// Its id.
    pub pid: u32,
    /// The user that it runs as, where that is another one.
    pub other_user: Option<u32>,
    /// The beginning of its command line; nothing in it moves a cursor.
    pub command: String,
}

impl fmt::Display for LockingProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        if let Some(user) = self.other_user {
            write!(f, " of user {user}")?;
        }
        if self.command.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.command)
    }
}

pub(crate) fn holding(path: &Path) -> Option<LockingProcess> {
    let file = fs::metadata(path).ok()?;
    let table = fs::read_to_string("/proc/locks").ok()?;
    let pid = in_table(&table, file.dev(), file.ino())?;
    let process = Path::new("/proc").join(pid.to_string());
    let user = fs::metadata(&process).ok()?.uid();
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    Some(LockingProcess {
        pid,
        other_user: (user != rustix::process::geteuid().as_raw()).then_some(user),
        command: shown(&line),
    })
}

/// The process that `flock` gave the file to. Of a line like
/// `1: FLOCK  ADVISORY  WRITE 4711 fe:01:1321 0 EOF` the sixth word is the file; one that waits has
/// `->` after the number.
fn in_table(table: &str, dev: u64, inode: u64) -> Option<u32> {
    let mut elsewhere = None;
    for line in table.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = words.as_slice() else {
            continue;
        };
        let mut parts = file.split(':');
        let (Some(major), Some(minor), Some(found)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        // A process of another namespace has the number 0.
        let Some(pid) = pid.parse::<u32>().ok().filter(|pid| *pid > 0) else {
            continue;
        };
        if found.parse() != Ok(inode) {
            continue;
        }
        let hex = |text: &str| u32::from_str_radix(text, 16);
        if hex(major) == Ok(rustix::fs::major(dev)) && hex(minor) == Ok(rustix::fs::minor(dev)) {
            return Some(pid);
        }
        // Where a file system has several numbers (btrfs, overlay), the kernel's list has another
        // one than the file.
        elsewhere = Some(pid);
    }
    elsewhere
}

fn shown(command_line: &[u8]) -> String {
    let text = String::from_utf8_lossy(command_line).replace('\0', " ");
    let text = text.trim_end().chars().take(LONGEST);
    text.map(|c| {
        if c.is_ascii_graphic() || c == ' ' {
            c
        } else {
            '?'
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_told_from_others() {
        let table = "1: FLOCK  ADVISORY  WRITE 11 fe:01:7 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 12 fe:01:8 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 00:2f:8 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 14 fe:01:8 0 EOF\n\
                     4: -> FLOCK  ADVISORY  WRITE 15 fe:01:8 0 EOF\n\
                     5: FLOCK  ADVISORY  WRITE 0 fe:01:9 0 EOF\n\
                     nonsense\n";
        let dev = rustix::fs::makedev(0xfe, 1);
        assert_eq!(in_table(table, dev, 8), Some(14));
        assert_eq!(in_table(table, rustix::fs::makedev(0, 1), 7), Some(11));
        for nobody in [9, 10] {
            assert_eq!(in_table(table, dev, nobody), None);
        }
    }

    #[test]
    fn a_command_line_is_text() {
        assert_eq!(shown(b"flock\0/x\x1b[2J\0sleep\0"), "flock /x?[2J sleep");
        assert_eq!(shown(&[b'a'; 200]).len(), LONGEST);
        let process = |other_user, command: &str| LockingProcess {
            pid: 7,
            other_user,
            command: command.to_owned(),
        };
        assert_eq!(process(None, "a b").to_string(), "process 7: a b");
        assert_eq!(process(Some(9), "").to_string(), "process 7 of user 9");
    }
}
