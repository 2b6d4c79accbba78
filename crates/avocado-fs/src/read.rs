use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::error::{AtPath, PathError};

/// What [`read_at_most`] says of a file that is too large.
#[derive(Debug, thiserror::Error)]
#[error("it is larger than {0} bytes")]
struct LargerThan(u64);

/// The bytes of a file that has at most `limit`. A pipe, a socket or a device in its place is not
/// waited for.
///
/// # Errors
/// When it cannot be read, or is no file; of kind [`FileTooLarge`](io::ErrorKind::FileTooLarge) when
/// it has more.
pub fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, PathError> {
    open(path)
        .and_then(|file| read_all(file, limit))
        .at("read", path)
}

/// The same of what a user names on a command line, which may be the pipe of another command.
///
/// # Errors
/// When it cannot be read; of kind [`FileTooLarge`](io::ErrorKind::FileTooLarge) when it has more.
pub fn read_stream_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, PathError> {
    File::open(path)
        .and_then(|file| read_all(file, limit))
        .at("read", path)
}

fn read_all(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            LargerThan(limit),
        ));
    }
    Ok(bytes)
}

/// Opens a file to read it.
///
/// # Errors
/// When there is none, or something else, such as a pipe: that keeps nobody waiting.
pub fn open_file(path: &Path) -> Result<File, PathError> {
    open(path).at("open", path)
}

/// Opens a file. What is something else says so, and does not keep whoever opens it.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(if kind.is_dir() {
        io::ErrorKind::IsADirectory.into()
    } else {
        io::Error::new(io::ErrorKind::InvalidInput, "it is no file")
    })
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// The bytes of a file, as [`read_at_most`] has them; none where there is no file.
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

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_no_file_is_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [&pipe, &socket, Path::new("/dev/zero"), dir.path()] {
            assert!(read_at_most(path, 5).is_err(), "{}", path.display());
        }
        let none = read_stream_at_most(Path::new("/dev/null"), 5).unwrap();
        assert_eq!(none, b"");
        read_stream_at_most(Path::new("/dev/zero"), 5).unwrap_err();
        // A link is what it leads to.
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read_at_most(&link, 5).unwrap(), b"x");
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
