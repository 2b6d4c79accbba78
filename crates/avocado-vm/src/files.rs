//! The files of the state directory: for their user only, and never half there.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use avocado_fs::WriteOptions;
use serde::Serialize;

use crate::error::VmError;

/// The largest file that is read whole, in bytes: ours are small.
const LARGEST: u64 = 1 << 20;

/// How every file of ours is written: 0600, and a reader or a crash sees the old bytes or the new
/// ones.
pub(crate) const PRIVATE: WriteOptions = WriteOptions::new().mode(0o600);

/// Writes a file as [`PRIVATE`] says.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), VmError> {
    let written = PRIVATE.write(path, bytes);
    written.map_err(|error| write_error(path, bytes.len() as u64, error.source))
}

/// A value as the JSON text that belongs into `path`, for people to read.
///
/// # Errors
/// [`VmError::Encode`], so that no file is ever written empty instead.
pub(crate) fn to_json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, VmError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|source| VmError::Encode {
        path: path.to_owned(),
        source,
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The error of a write of `needed` bytes.
pub(crate) fn write_error(path: &Path, needed: u64, source: io::Error) -> VmError {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => VmError::NoSpace {
            path: path.to_owned(),
            needed,
        },
        _ => VmError::file("write", path)(source),
    }
}

/// The bytes of a small file; none where there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, VmError> {
    Ok(avocado_fs::read_if_there(path, LARGEST)?)
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> Result<(), VmError> {
    Ok(avocado_fs::remove_file_if_there(path)?)
}

/// Removes a directory and everything below; it may be gone already.
pub(crate) fn remove_tree(path: &Path) -> Result<(), VmError> {
    Ok(avocado_fs::remove_tree(path)?)
}

/// Makes names in a directory durable.
pub(crate) fn sync_directory(dir: &Path) -> Result<(), VmError> {
    Ok(avocado_fs::sync_directory(dir)?)
}

/// Makes a directory, and those above it, for the user only (0700), whatever the umask. One that
/// is there already and open to others is closed.
pub(crate) fn create_dir(dir: &Path) -> Result<(), VmError> {
    avocado_fs::create_directories(dir, 0o700)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let found = fs::metadata(dir).map_err(VmError::file("look at", dir))?;
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(VmError::Foreign {
                dir: dir.to_owned(),
            });
        }
        if found.mode() & 0o777 != 0o700 {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
                .map_err(VmError::file("close", dir))?;
        }
    }
    Ok(())
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
