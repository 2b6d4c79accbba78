//! Files that appear whole or not at all, and that are for their user only.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use crate::error::Error;

/// The largest file that is read whole, in bytes: ours are small.
const LARGEST: u64 = 1 << 20;

/// Writes a file (0600) through a temporary one, so that a reader or a crash sees the old bytes or
/// the new ones.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_io(path, bytes).map_err(|e| written(path, bytes.len() as u64, e))
}

fn write_io(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (dir, mut file) = temporary(path)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_dir(dir)
}

/// A temporary file (0600) beside `path`, which goes away with the value; and the directory.
pub(crate) fn temporary(path: &Path) -> io::Result<(&Path, tempfile::NamedTempFile)> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let file = tempfile::Builder::new().prefix(&prefix).tempfile_in(dir)?;
    Ok((dir, file))
}

/// Makes names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

/// The error of a write of `needed` bytes.
pub(crate) fn written(path: &Path, needed: u64, source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::NoSpace {
            path: path.to_owned(),
            needed,
        },
        _ => Error::file("write", path)(source),
    }
}

/// The bytes of a small file; none where there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::file("read", path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::file("read", path))?;
    if bytes.len() as u64 > LARGEST {
        let source = io::Error::other(format!("it is larger than {LARGEST} bytes"));
        return Err(Error::file("read", path)(source));
    }
    Ok(Some(bytes))
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::file("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Removes a directory and everything below; it may be gone already.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::file("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Makes a directory, and those above it, for the user only (0700), whatever the umask. One that
/// is there already and open to others is closed.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(Error::file("create", dir))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let found = fs::metadata(dir).map_err(Error::file("look at", dir))?;
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(Error::Foreign {
                dir: dir.to_owned(),
            });
        }
        if found.mode() & 0o777 != 0o700 {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
                .map_err(Error::file("close", dir))?;
        }
    }
    Ok(())
}

/// Says that a test did not run. On the real standard output: the harness would keep it.
#[cfg(test)]
pub(crate) fn skip(test: &str, why: impl std::fmt::Display) {
    _ = writeln!(io::stdout(), "SKIP {test}: {why}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn what_is_written_is_whole_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("a/b");
        create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        create_dir(&dir).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);

        let path = dir.join("file");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(mode(&path), 0o600);
        assert_eq!(
            fs::read_dir(&dir).unwrap().count(),
            1,
            "no temporary file is left"
        );
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("dir-in-the-way");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("x"), "").unwrap();
        assert!(write(&path, b"new").is_err());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
