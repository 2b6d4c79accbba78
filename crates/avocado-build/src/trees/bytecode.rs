//! Compiled Python, which names the time of the source that it was compiled from. Python compiles a
//! source anew in each process where that is another one, for it cannot write to an image.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::Tree;
use crate::error::{At as _, BuildError};

/// The magic numbers of CPython 3.7 and later, whose headers have this form: the number and CR LF,
/// flags (none where the time counts), time and size of the source.
const MAGIC: std::ops::Range<u16> = 3390..20000;
const HEADER_LENGTH: usize = 16;
const TIME_AT: usize = 8;

/// A source and its times.
#[derive(Debug, Clone, Copy)]
pub(super) struct SourceTimes {
    /// When the tree was made.
    pub(super) before: i64,
    /// In the image.
    pub(super) after: i64,
    pub(super) size: u64,
}

pub(super) fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "py")
}

pub(super) fn is_compiled(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pyc")
}

/// Has a compiled file that is good for its source name the time that the source has in the image,
/// and one that is not good for it another one.
pub(super) fn follow(
    root: &Tree,
    path: &Path,
    sources: &HashMap<PathBuf, SourceTimes>,
) -> Result<(), BuildError> {
    let source = source_of(path).and_then(|source| sources.get(&source));
    let (Some(source), Some(mut file)) = (source, root.file_to_change(path)?) else {
        return Ok(());
    };
    let mut header = [0; HEADER_LENGTH];
    match file.read_exact(&mut header) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
        other => other.at("read", &root.shown(path))?,
    }
    let Some(time) = new_time(header, *source) else {
        return Ok(());
    };
    let written = file.write_all_at(&time.to_le_bytes(), TIME_AT as u64);
    written.at("write", &root.shown(path))
}

/// The time to write into a file with this header, where it has to be another one.
fn new_time(header: [u8; HEADER_LENGTH], source: SourceTimes) -> Option<u32> {
    // As Python does: the lower 32 bits.
    let (before, after) = (source.before as u32, source.after as u32);
    let number = |at: usize| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        u32::from_le_bytes(bytes)
    };
    let goes_by_time = MAGIC.contains(&u16::from_le_bytes([header[0], header[1]]))
        && header[2..4] == *b"\r\n"
        && number(4) == 0;
    if !goes_by_time || number(12) != source.size as u32 {
        return None;
    }
    let named = number(TIME_AT);
    if named == before {
        return (after != named).then_some(after);
    }
    (named == after).then_some(after.wrapping_sub(1))
}

/// `a/__pycache__/b.cpython-312.opt-1.pyc` and `a/b.pyc` are made of `a/b.py`.
fn source_of(path: &Path) -> Option<PathBuf> {
    let directory = path.parent()?;
    let name = path.file_stem()?.to_str()?;
    if directory.file_name().is_some_and(|n| n == "__pycache__") {
        let module = name.split('.').next()?;
        return Some(directory.parent()?.join(format!("{module}.py")));
    }
    Some(directory.join(format!("{name}.py")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiled_file_says_what_it_was_made_of() {
        for (path, source) in [
            ("a/__pycache__/b.cpython-312.pyc", "a/b.py"),
            ("a/__pycache__/b.cpython-312.opt-2.pyc", "a/b.py"),
            ("__pycache__/b.cpython-312.pyc", "b.py"),
            ("a/b.pyc", "a/b.py"),
        ] {
            assert_eq!(source_of(Path::new(path)), Some(source.into()), "{path}");
        }
    }

    #[test]
    fn what_was_good_stays_good_and_what_was_stale_stays_stale() {
        let source = SourceTimes {
            before: 1000,
            after: 0,
            size: 7,
        };
        let header = |magic: u16, flags: u32, time: u32, size: u32| {
            let mut bytes = magic.to_le_bytes().to_vec();
            bytes.extend(b"\r\n");
            for number in [flags, time, size] {
                bytes.extend(number.to_le_bytes());
            }
            <[u8; HEADER_LENGTH]>::try_from(bytes).unwrap()
        };
        for (header, expected) in [
            (header(3495, 0, 1000, 7), Some(0)),
            (header(3495, 0, 999, 7), None),
            // It would become good.
            (header(3495, 0, 0, 7), Some(u32::MAX)),
            (header(3495, 0, 0, 8), None),
            (header(3495, 0, 1000, 8), None),
            // By the hash of the source; of Python 2, and of 3.6.
            (header(3495, 1, 1000, 7), None),
            (header(62211, 0, 1000, 7), None),
            (header(3379, 0, 1000, 7), None),
        ] {
            assert_eq!(new_time(header, source), expected, "{header:?}");
        }
    }
}
