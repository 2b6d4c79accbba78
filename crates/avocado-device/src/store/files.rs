//! Every write to the store goes through here. Rules: bytes appear under their name only when
//! they are complete and on the disk, a name changes by one `rename`, and a directory is synced
//! after an entry in it changed. Temporary names begin with a dot, which no validated name does.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use avocado_fs::recorded::{self, RecordedFile};
use avocado_fs::{AtPath, TemporaryName, WriteOptions};
use rustix::fs::{FileType, Mode, OFlags};
use serde::Serialize;

use crate::error::FailureReason;

/// What file systems have at their root: in the store where one is mounted there.
pub(crate) const LOST_AND_FOUND: &str = "lost+found";

/// Creates a directory and those above it, lastingly.
pub(crate) fn create_dir(path: &Path) -> Result<(), FailureReason> {
    Ok(recorded::create_directories(path).at("create", path)?)
}

/// As [`create_dir`]; the directory is for root alone, also where it was there before.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), FailureReason> {
    create_dir(path)?;
    make_private(path);
    Ok(())
}

/// Takes a directory from everybody but root, where its file system has modes.
pub(crate) fn make_private(path: &Path) {
    let open = |meta: fs::Metadata| meta.permissions().mode() & 0o077 != 0;
    if fs::metadata(path).is_ok_and(open) {
        let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
    }
}

/// Puts a file with these bytes at `path`; whatever reads it sees the old bytes or the new ones.
/// The caller holds the lock: the temporary file has always the same name, so that a crash leaves
/// no more than one.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), FailureReason> {
    let options = WriteOptions::new().temporary(TemporaryName::Beside);
    Ok(options.write(path, bytes)?)
}

/// As [`write`], with the JSON of `document`. What cannot be written as JSON changes nothing.
pub(crate) fn write_json(path: &Path, document: &impl Serialize) -> Result<(), FailureReason> {
    let bytes = serde_json::to_vec_pretty(document)
        .map_err(|e| FailureReason::file("write", path)(e.into()))?;
    write(path, &bytes)
}

/// Moves a complete file to its name, where it is for root alone. Both are on the same file system. The directory is not
/// synced: the caller moves several and then calls [`sync_dir`] once.
pub(crate) fn promote(from: &Path, to: &Path) -> Result<(), FailureReason> {
    let file = RecordedFile::open(from).at("open", from)?;
    // Not every file system has modes.
    let _ = file.file().set_permissions(Permissions::from_mode(0o600));
    file.sync().at("sync", from)?;
    Ok(recorded::rename(from, to).at("rename", from)?)
}

/// Moves an entry to another name in the same directory, replacing a file of that name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), FailureReason> {
    recorded::rename(from, to).at("rename", from)?;
    sync_dir(parent(to))
}

/// Makes the symlink `path` point to `target`: it never is missing, nor half written.
pub(crate) fn point(path: &Path, target: &Path) -> Result<(), FailureReason> {
    let temporary = temporary(path);
    remove(&temporary)?;
    recorded::symlink(target, &temporary).at("create", &temporary)?;
    // The prepared link must have reached the disk before it takes the place of the old one.
    sync_dir(parent(path))?;
    rename(&temporary, path)
}

/// Removes a file or symlink if it is there, lastingly.
pub(crate) fn remove(path: &Path) -> Result<(), FailureReason> {
    match recorded::unlink(path) {
        Ok(()) => sync_dir(parent(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(FailureReason::file("remove", path)(e)),
    }
}

/// Removes whatever is at `path`, with everything in it. It may come back after a crash.
pub(crate) fn remove_all(path: &Path) -> Result<(), FailureReason> {
    Ok(recorded::remove_tree(path).at("remove", path)?)
}

/// Makes the entries of a directory last.
pub(crate) fn sync_dir(path: &Path) -> Result<(), FailureReason> {
    Ok(avocado_fs::sync_directory(path)?)
}

/// The names in a directory, sorted; none when it does not exist.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, FailureReason> {
    match avocado_fs::file_names(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => Ok(other?),
    }
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FailureReason> {
    avocado_fs::read_at_most(path, limit).map_err(|error| {
        if error.kind() == io::ErrorKind::FileTooLarge {
            let path = path.to_owned();
            FailureReason::TooLarge { path, limit }
        } else {
            error.into()
        }
    })
}

/// As [`read`], of a file that another user named. What is no regular file is not even opened: that
/// could wait for ever (a pipe), or do something (a device).
pub(crate) fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, FailureReason> {
    let failed = |e: io::Error| FailureReason::file("read", path)(e);
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| failed(e.into()))?;
    let found = rustix::fs::fstat(&place).map_err(|e| failed(e.into()))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        let why = "it is not a regular file";
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, why)));
    }
    let itself = format!("/proc/self/fd/{}", place.as_raw_fd());
    read(Path::new(&itself), limit).map_err(|error| match error {
        FailureReason::File { source, .. } => failed(source),
        FailureReason::TooLarge { limit, .. } => FailureReason::TooLarge {
            path: path.to_owned(),
            limit,
        },
        other => other,
    })
}

/// The length of a file in bytes; none where there is no file.
pub(crate) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// What is free on the disk that `path`, or what will be above it, is on, in bytes.
pub(crate) fn free(path: &Path) -> Result<u64, FailureReason> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    let space =
        rustix::fs::statvfs(there).map_err(|e| FailureReason::file("read", there)(e.into()))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// The name under which the link `path` is prepared. One is enough: the lock is held.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_write_replaces_and_survives_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        create_dir(parent(&path)).unwrap();
        fs::write(temporary(&path), "half").unwrap();
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(parent(&path)).unwrap(), ["file"]);
    }

    #[test]
    fn what_cannot_be_written_as_json_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_json(&path, &[1]).unwrap();
        // JSON has no keys that are lists.
        let bad = std::collections::BTreeMap::from([(vec![1], 2)]);
        let error = write_json(&path, &bad).unwrap_err();
        assert!(matches!(error, FailureReason::File { .. }), "{error:?}");
        assert_eq!(names(dir.path()).unwrap(), ["file"]);
        assert_eq!(fs::read(&path).unwrap(), b"[\n  1\n]");
    }

    #[test]
    fn a_link_is_replaced_by_rename() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("active");
        // A crash left the prepared link of another attempt.
        symlink("runtimes/x", temporary(&link)).unwrap();
        point(&link, Path::new("runtimes/a")).unwrap();
        let first = fs::symlink_metadata(&link).unwrap();
        point(&link, Path::new("runtimes/b")).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("runtimes/b"));
        use std::os::unix::fs::MetadataExt;
        let second = fs::symlink_metadata(&link).unwrap();
        assert_ne!(first.ino(), second.ino());
        assert_eq!(names(dir.path()).unwrap(), ["active"]);
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(matches!(
            read(&path, 4),
            Err(FailureReason::TooLarge { .. })
        ));
    }
}
