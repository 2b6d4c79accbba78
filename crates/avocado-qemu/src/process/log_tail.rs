//! What a program said last.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// How much of a log goes into an error.
const TAIL: u64 = 4096;

/// The last lines of a log, without surrounding white space; empty where there are none.
pub(crate) fn log_tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        let start = length.saturating_sub(TAIL);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let whole = match text.split_once('\n') {
            Some((_cut, rest)) if start > 0 => rest,
            _ => &text,
        };
        Ok(whole.trim().to_owned())
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_has_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert_eq!(log_tail(&log), "");
        std::fs::write(&log, "\none\ntwo\n\n").unwrap();
        assert_eq!(log_tail(&log), "one\ntwo");
        let long: String = (0..2000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&log, &long).unwrap();
        let end = log_tail(&log);
        assert!(end.ends_with("line 1999"), "{end}");
        assert!(end.starts_with("line "), "{end}");
        assert!(end.len() <= 4096);
    }
}
