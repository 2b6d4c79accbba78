//! The system calls that change a disk, one function for each.
//!
//! What has to survive a crash writes through these alone: with the feature `record` a test sees
//! each of them (`crash::Recorder`), can end the work at any, and makes of them every state in
//! which a crash can leave the disk. Without that feature they call the system and do nothing
//! besides.
//!
//! Nothing is synced unless it says so: the bytes of a file last after [`RecordedFile::sync`], a
//! name after [`sync_directory`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

#[cfg(feature = "record")]
use crate::crash::Op;
use crate::error::or_missing;

/// Adds to the record, where there is one.
macro_rules! recorded {
    ($op:expr) => {
        #[cfg(feature = "record")]
        crate::crash::record::push($op);
    };
}

/// Fails, where there is a record, from the moment on at which a test ends the work.
macro_rules! may_act {
    () => {
        #[cfg(feature = "record")]
        crate::crash::record::may_act()?;
    };
}

/// A file, or a device, whose writes are recorded. No link is followed to it, but for
/// [`RecordedFile::open_device`].
#[derive(Debug)]
pub struct RecordedFile {
    file: File,
    path: PathBuf,
}

impl RecordedFile {
    /// Creates an empty file that must not exist: with exactly this mode, or with the one that
    /// follows from the umask.
    ///
    /// # Errors
    /// When it exists, or cannot be created.
    pub fn create_new(path: &Path, mode: Option<u32>) -> io::Result<Self> {
        may_act!();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        if let Some(mode) = mode {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        }
        let file = options.open(path)?;
        recorded!(Op::create(path));
        #[cfg(unix)]
        if let Some(mode) = mode {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            file.set_permissions(mode)?;
        }
        #[cfg(not(unix))]
        let _ = mode;
        Ok(RecordedFile::new(file, path))
    }

    /// Opens a file that is there to read and write it.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        not_through_links(&mut options, path)?;
        Ok(RecordedFile::new(options.open(path)?, path))
    }

    /// Opens a file to read and write it, created where it is missing.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn open_or_create(path: &Path) -> io::Result<Self> {
        loop {
            match RecordedFile::create_new(path, None) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other,
            }
            match RecordedFile::open(path) {
                // Removed in between.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
        }
    }

    /// Opens a device that is there. Names of devices usually are links.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn open_device(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(RecordedFile::new(file, path))
    }

    fn new(file: File, path: &Path) -> Self {
        RecordedFile {
            file,
            path: path.to_owned(),
        }
    }

    /// The file, to read from. What is written to it directly is not recorded.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path that it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes to the end of the file.
    ///
    /// # Errors
    /// When not everything could be written.
    pub fn append(&self, bytes: &[u8]) -> io::Result<()> {
        may_act!();
        let mut file = &self.file;
        file.seek(SeekFrom::End(0))?;
        file.write_all(bytes)?;
        recorded!(Op::Append(self.path.clone(), bytes.into()));
        Ok(())
    }

    /// Writes at `offset`, over what is there.
    ///
    /// # Errors
    /// When not everything could be written.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        may_act!();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)?;
        recorded!(Op::WriteAt(self.path.clone(), offset, bytes.into()));
        Ok(())
    }

    /// Cuts the file off at `length`, or extends it with zeros.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn set_length(&self, length: u64) -> io::Result<()> {
        may_act!();
        self.file.set_len(length)?;
        recorded!(Op::SetLength(self.path.clone(), length));
        Ok(())
    }

    /// Makes the bytes last, but not the name.
    ///
    /// # Errors
    /// When the disk fails. What was written before then is in an unknown state.
    pub fn sync(&self) -> io::Result<()> {
        may_act!();
        self.file.sync_all()?;
        recorded!(Op::Sync(self.path.clone()));
        Ok(())
    }
}

#[cfg(unix)]
fn not_through_links(options: &mut OpenOptions, _path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    Ok(())
}

#[cfg(not(unix))]
fn not_through_links(_options: &mut OpenOptions, path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        return Err(io::Error::other("a symbolic link where a file should be"));
    }
    Ok(())
}

/// Makes the names in a directory last. Nothing happens where a directory cannot be opened.
///
/// # Errors
/// When the disk fails.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    may_act!();
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    recorded!(Op::SyncDirectory(path.into()));
    let _ = path;
    Ok(())
}

/// Creates a directory in one that is there.
///
/// # Errors
/// When it exists, or cannot be created.
pub fn make_directory(path: &Path) -> io::Result<()> {
    may_act!();
    fs::create_dir(path)?;
    recorded!(Op::MakeDirectory(path.into()));
    Ok(())
}

/// Creates a directory and those above it, lastingly.
///
/// # Errors
/// When one of them cannot be created.
pub fn create_directories(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_directories(parent)?;
        match make_directory(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        sync_directory(parent)?;
    }
    Ok(())
}

/// Moves a name, over a file of the new name.
///
/// # Errors
/// When that is not possible.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    may_act!();
    // The system then does nothing: both names stay.
    #[cfg(feature = "record")]
    if crate::same_file(from, to) {
        return fs::rename(from, to);
    }
    fs::rename(from, to)?;
    recorded!(Op::Rename(from.into(), to.into()));
    Ok(())
}

/// Creates a symbolic link to `target` at `path`.
///
/// # Errors
/// When something is at `path`, or it cannot be created.
#[cfg(unix)]
pub fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    may_act!();
    std::os::unix::fs::symlink(target, path)?;
    recorded!(Op::Symlink(path.into(), target.into()));
    Ok(())
}

/// Gives a file another name.
///
/// # Errors
/// When something is at `path`, or the file system has no such links.
pub fn hard_link(original: &Path, path: &Path) -> io::Result<()> {
    may_act!();
    fs::hard_link(original, path)?;
    recorded!(Op::HardLink(path.into(), original.into()));
    Ok(())
}

/// Removes the name of a file or symbolic link.
///
/// # Errors
/// When there is none, or it cannot be removed.
pub fn unlink(path: &Path) -> io::Result<()> {
    may_act!();
    fs::remove_file(path)?;
    recorded!(Op::Remove(path.into()));
    Ok(())
}

/// Removes an empty directory.
///
/// # Errors
/// When there is none, or something is in it.
pub fn remove_directory(path: &Path) -> io::Result<()> {
    may_act!();
    fs::remove_dir(path)?;
    recorded!(Op::Remove(path.into()));
    Ok(())
}

/// Removes whatever is at `path`, with everything in it, name by name; nothing there is fine. It is
/// for trees that no other program writes to meanwhile: [`remove_tree`](crate::remove_tree) is the
/// one for the others.
///
/// # Errors
/// When something of it cannot be removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            for entry in fs::read_dir(path)? {
                remove_tree(&entry?.path())?;
            }
            remove_directory(path)
        }
        Ok(_) => unlink(path),
        Err(e) => Err(e),
    };
    or_missing(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_where_they_are_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = RecordedFile::open_or_create(&path).unwrap();
        file.append(b"abcdef").unwrap();
        file.write_at(1, b"BC").unwrap();
        file.append(b"g").unwrap();
        file.sync().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"aBCdefg");
        let again = RecordedFile::open_or_create(&path).unwrap();
        again.set_length(2).unwrap();
        again.append(b"!").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"aB!");
        assert!(RecordedFile::create_new(&path, None).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_to_devices_and_to_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("a"), dir.path().join("link"));
        fs::write(&path, "kept").unwrap();
        symlink(&path, &link).unwrap();
        assert!(RecordedFile::open(&link).is_err());
        assert!(RecordedFile::open_or_create(&link).is_err());
        assert!(RecordedFile::create_new(&link, None).is_err());
        RecordedFile::open_device(&link)
            .unwrap()
            .write_at(0, b"K")
            .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"Kept");
    }

    #[test]
    fn a_tree_is_made_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        create_directories(&path).unwrap();
        create_directories(&path).unwrap();
        fs::write(path.join("file"), "").unwrap();
        remove_tree(&dir.path().join("a")).unwrap();
        remove_tree(&dir.path().join("a")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
