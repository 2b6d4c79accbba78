//! Every write to the store goes through here. Rules: bytes appear under their name only when
//! they are complete and on the disk, a name changes by one `rename`, and a directory is synced
//! after an entry in it changed. Temporary names begin with a dot, which no validated name does.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::disk;
use crate::Reason;

/// Creates a directory and those above it, lastingly.
pub(crate) fn create_dir(path: &Path) -> Result<(), Reason> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
        match disk::mkdir(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(Reason::file("create", path))?,
        }
        sync_dir(parent)?;
    }
    Ok(())
}

/// Puts a file with these bytes at `path`; whatever reads it sees the old bytes or the new ones.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Reason> {
    let temporary = temporary(path);
    remove(&temporary)?;
    let file = disk::create_new(&temporary).map_err(Reason::file("create", &temporary))?;
    disk::append(&file, &temporary, bytes)
        .and_then(|()| disk::sync(&file, &temporary))
        .map_err(Reason::file("write", &temporary))?;
    drop(file);
    rename(&temporary, path)
}

/// Moves a complete file to its name. Both are on the same file system. The directory is not
/// synced: the caller moves several and then calls [`sync_dir`] once.
pub(crate) fn promote(from: &Path, to: &Path) -> Result<(), Reason> {
    let file = File::open(from).map_err(Reason::file("open", from))?;
    disk::sync(&file, from).map_err(Reason::file("sync", from))?;
    disk::rename(from, to).map_err(Reason::file("rename", from))
}

/// Moves an entry to another name in the same directory, replacing a file of that name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Reason> {
    disk::rename(from, to).map_err(Reason::file("rename", from))?;
    sync_dir(parent(to))
}

/// Makes the symlink `path` point to `target`: it never is missing, nor half written.
pub(crate) fn point(path: &Path, target: &Path) -> Result<(), Reason> {
    let temporary = temporary(path);
    remove(&temporary)?;
    disk::symlink(target, &temporary).map_err(Reason::file("create", &temporary))?;
    // The prepared link must have reached the disk before it takes the place of the old one.
    sync_dir(parent(path))?;
    rename(&temporary, path)
}

/// Removes a file or symlink if it is there, lastingly.
pub(crate) fn remove(path: &Path) -> Result<(), Reason> {
    match disk::unlink(path) {
        Ok(()) => sync_dir(parent(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Reason::file("remove", path)(e)),
    }
}

/// Removes whatever is at `path`, with everything in it. It may come back after a crash.
pub(crate) fn remove_all(path: &Path) -> Result<(), Reason> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => {
            for entry in fs::read_dir(path).map_err(Reason::file("read", path))? {
                remove_all(&entry.map_err(Reason::file("read", path))?.path())?;
            }
            disk::rmdir(path)
        }
        Ok(_) => disk::unlink(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Reason::file("remove", path)),
    }
}

/// Makes the entries of a directory last.
pub(crate) fn sync_dir(path: &Path) -> Result<(), Reason> {
    disk::sync_dir(path).map_err(Reason::file("sync", path))
}

/// The names in a directory, sorted; none when it does not exist.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, Reason> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Reason::file("read", dir))?,
    };
    let mut names = Vec::with_capacity(64);
    for entry in entries {
        let entry = entry.map_err(Reason::file("read", dir))?;
        // What is not UTF-8 is not ours.
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Reason> {
    let file = File::open(path).map_err(Reason::file("read", path))?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(Reason::file("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Reason::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// The length of a file in bytes; none where there is no file.
pub(crate) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// What is free on the disk that `path`, or what will be above it, is on, in bytes.
pub(crate) fn free(path: &Path) -> Result<u64, Reason> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    let space = rustix::fs::statvfs(there).map_err(|e| Reason::file("read", there)(e.into()))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// The name under which what will be `path` is prepared. One is enough: the lock is held.
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
        assert!(matches!(read(&path, 4), Err(Reason::TooLarge { .. })));
    }
}
