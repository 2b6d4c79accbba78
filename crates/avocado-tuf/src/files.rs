//! Files that appear whole or not at all.
//!
//! Everything is prepared under one temporary name per directory, so a crash leaves at most that
//! one file behind and the next write takes it over. Callers hold a lock on what they write.

#[cfg(not(unix))]
mod other;
#[cfg(unix)]
mod unix;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[cfg(not(unix))]
use other as system;
#[cfg(unix)]
use unix as system;

pub(crate) use system::{
    create_directory, create_new, lock, open_partial, same_file, sync_directory,
};

const TEMPORARY: &str = ".new";

/// Writes `directory/name` through a temporary file, fsync and rename.
pub(crate) fn write(directory: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = directory.join(TEMPORARY);
    remove_if_there(&temporary)?;
    let mut file = create_new(&temporary, mode)?;
    crash::point()?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    crash::point()?;
    fs::rename(&temporary, directory.join(name))
}

/// Makes `directory/name` another name of `source`, or a copy where a link is not possible. The
/// bytes are on disk before the name is.
pub(crate) fn link_or_copy(source: &Path, directory: &Path, name: &str) -> io::Result<()> {
    let temporary = directory.join(TEMPORARY);
    let destination = directory.join(name);
    remove_if_there(&temporary)?;
    let mut original = File::open(source)?;
    if fs::hard_link(source, &temporary).is_ok() {
        original.sync_all()?;
    } else {
        let mut copy = create_new(&temporary, 0o644)?;
        io::copy(&mut original, &mut copy)?;
        copy.sync_all()?;
    }
    crash::point()?;
    fs::rename(&temporary, &destination)?;
    crash::point()?;
    // Renaming over another name of the same file does nothing, and leaves the temporary one.
    remove_if_there(&temporary)
}

/// The bytes of a regular file; none where there is no file.
pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The names in a directory, but for those that are no text.
pub(crate) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().into_string().ok()))
        .collect::<io::Result<Vec<_>>>()?;
    Ok(names.into_iter().flatten().collect())
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    crash::point()?;
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The path in error messages together with what went wrong there.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct PathError {
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Names the path that an I/O error belongs to.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T, PathError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, PathError> {
        self.map_err(|source| PathError {
            path: path.to_owned(),
            source,
        })
    }
}

/// Points at which a test can end the work, as a crash would.
pub(crate) mod crash {
    #[cfg(not(test))]
    pub(crate) fn point() -> std::io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    std::thread_local! {
        static LEFT: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
    }

    #[cfg(test)]
    pub(crate) fn point() -> std::io::Result<()> {
        match LEFT.get() {
            Some(0) => Err(std::io::Error::other("crash")),
            left => {
                LEFT.set(left.map(|n| n - 1));
                Ok(())
            }
        }
    }

    /// Lets this thread pass `points`, and none after them; `None` ends that.
    #[cfg(test)]
    pub(crate) fn after(points: Option<u32>) {
        LEFT.set(points);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_leftover_temporary_is_no_obstacle_and_none_is_left() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(TEMPORARY), "half").unwrap();
        write(dir.path(), "a", b"whole", 0o600).unwrap();
        fs::write(dir.path().join(TEMPORARY), "half").unwrap();
        link_or_copy(&dir.path().join("a"), dir.path(), "b").unwrap();
        // Once more, now that both are one file.
        link_or_copy(&dir.path().join("a"), dir.path(), "b").unwrap();
        assert!(same_file(&dir.path().join("a"), &dir.path().join("b")));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"whole");
        let mode = fs::metadata(dir.path().join("a")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
