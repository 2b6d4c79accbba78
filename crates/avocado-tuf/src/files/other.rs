//! The same without what only Unix knows: modes, and directories that can be opened.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

/// Where a directory's lock is.
const LOCK: &str = ".lock";

/// Nothing to do: a directory cannot be brought to disk by itself.
pub(crate) fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// Creates a file that must not exist. Who may read it follows from its directory.
pub(crate) fn create_new(path: &Path, _mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Opens a file to read and extend, created where it is missing; a symbolic link is refused.
pub(crate) fn open_partial(path: &Path) -> io::Result<File> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        return Err(io::Error::other("a symbolic link where a file should be"));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

/// Creates `directory` and what is missing above it.
pub(crate) fn create_directory(directory: &Path, _mode: u32) -> io::Result<()> {
    fs::create_dir_all(directory)
}

/// Whether both paths name the same file. Another name of it, by a hard link, is not found out:
/// whoever asks then does more than would be needed.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Waits for the lock on `directory`, which holds until the returned file is closed.
pub(crate) fn lock(directory: &Path) -> io::Result<File> {
    let file = File::create(directory.join(LOCK))?;
    file.lock()?;
    Ok(file)
}
