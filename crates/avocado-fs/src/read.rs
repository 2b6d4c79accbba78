use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::error::{AtPath, PathError};

/// What [`read_at_most`] says of a file that is too large.
#[derive(Debug, thiserror::Error)]
#[error("it is larger than {0} bytes")]
struct LargerThan(u64);

/// The bytes of a file that has at most `limit`.
///
/// # Errors
/// When it cannot be read; of kind [`FileTooLarge`](io::ErrorKind::FileTooLarge) when it has more.
pub fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, PathError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                LargerThan(limit),
            ));
        }
        Ok(bytes)
    });
    read.at("read", path)
}

/// The same; none where there is no file.
///
/// # Errors
/// As [`read_at_most`].
pub fn read_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, PathError> {
    match read_at_most(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The names in a directory, sorted, but for those that are no text: such a name is none of ours.
///
/// # Errors
/// When the directory cannot be read.
pub fn file_names(directory: &Path) -> Result<Vec<String>, PathError> {
    let names = fs::read_dir(directory).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.file_name().into_string().ok()))
            .collect::<io::Result<Vec<_>>>()
    });
    let mut names: Vec<String> = names.at("read", directory)?.into_iter().flatten().collect();
    names.sort();
    Ok(names)
}

/// Whether both paths name the same file.
#[cfg(unix)]
pub fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| fs::symlink_metadata(path).map(|m| (m.dev(), m.ino()));
    matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

/// Whether both paths name the same file. Another name of it, by a hard link, is not found out:
/// the caller then does more than would be needed.
#[cfg(not(unix))]
pub fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert_eq!(read_if_there(&path, 5).unwrap(), None);
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_at_most(&path, 5).unwrap(), b"12345");
        assert!(read_at_most(&path, u64::MAX).is_ok());
        let error = read_if_there(&path, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), format!("cannot read {}", path.display()));
        assert_eq!(error.source.to_string(), "it is larger than 4 bytes");
    }

    #[test]
    fn names_are_sorted() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a", ".c"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(file_names(dir.path()).unwrap(), [".c", "a", "b"]);
    }
}
