//! The system calls that change the store, one function for each. Nothing else in the store
//! writes. A test build keeps a record of them, from which the tests make every state in which a
//! crash can leave the disk; any other build calls the system and does nothing besides.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

#[cfg(test)]
pub(crate) use crate::crash::record;

/// Adds to the record, in a test build.
macro_rules! recorded {
    ($op:expr) => {
        #[cfg(test)]
        record::push($op);
    };
}

/// Does nothing. In a test build, fails from the moment on at which the test ends the work.
macro_rules! may_act {
    () => {
        #[cfg(test)]
        record::alive()?;
    };
}

/// Creates an empty file that must not exist.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    may_act!();
    let file = File::create_new(path)?;
    recorded!(record::Op::create(path));
    Ok(file)
}

/// Writes to the end of a file that [`create_new`] created.
pub(crate) fn append(mut file: &File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    may_act!();
    let _ = path;
    file.write_all(bytes)?;
    recorded!(record::Op::Append(path.into(), bytes.into()));
    Ok(())
}

/// Makes the bytes of a file last, but not its name.
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    may_act!();
    let _ = path;
    file.sync_all()?;
    recorded!(record::Op::Sync(path.into()));
    Ok(())
}

/// Makes the names in a directory last.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    may_act!();
    File::open(path)?.sync_all()?;
    recorded!(record::Op::SyncDir(path.into()));
    Ok(())
}

/// Creates a directory.
pub(crate) fn mkdir(path: &Path) -> io::Result<()> {
    may_act!();
    fs::create_dir(path)?;
    recorded!(record::Op::MakeDir(path.into()));
    Ok(())
}

/// Moves a name, over a file of the new name.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    may_act!();
    fs::rename(from, to)?;
    recorded!(record::Op::Rename(from.into(), to.into()));
    Ok(())
}

/// Creates a symlink.
pub(crate) fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    may_act!();
    std::os::unix::fs::symlink(target, path)?;
    recorded!(record::Op::Link(path.into(), target.into()));
    Ok(())
}

/// Removes the name of a file or symlink.
pub(crate) fn unlink(path: &Path) -> io::Result<()> {
    may_act!();
    fs::remove_file(path)?;
    recorded!(record::Op::Remove(path.into()));
    Ok(())
}

/// Removes an empty directory.
pub(crate) fn rmdir(path: &Path) -> io::Result<()> {
    may_act!();
    fs::remove_dir(path)?;
    recorded!(record::Op::Remove(path.into()));
    Ok(())
}

/// Says that somebody else, the repository's client, has written below `dir`.
pub(crate) fn foreign(dir: &Path) {
    let _ = dir;
    #[cfg(test)]
    record::foreign(dir);
}
