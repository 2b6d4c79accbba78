//! Locks between processes. They are advisory (`flock`), and end with the process that holds them,
//! however that ends.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{AtPath, PathError};
#[cfg(target_os = "linux")]
use crate::locking_process::LockingProcess;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// Where directories have a file for their lock.
#[cfg(not(unix))]
const DIRECTORY_LOCK: &str = ".lock";

/// A place that processes agree on to lock each other out.
#[derive(Debug, Clone, Copy)]
pub struct LockPlace<'a> {
    path: &'a Path,
    kind: PlaceKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlaceKind {
    File,
    Directory,
}

/// A lock, held until it is dropped. No child inherits it.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// The file that carries the lock: its holder can be written there.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// The file for the lock of something that others may read, such as a published directory: whoever
/// may open a file or a directory may lock it. It stands beside `path` and is hidden.
pub fn lock_file_beside(path: &Path) -> PathBuf {
    match path.file_name() {
        Some(name) => {
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(".lock");
            path.with_file_name(hidden)
        }
        None => path.join(".lock"),
    }
}

impl<'a> LockPlace<'a> {
    /// A file that exists for the lock alone. It is created (0600) where it is missing; its
    /// directory is not. A symbolic link in its place is refused. One of ours that others may open
    /// is closed to them: whoever may open it may lock it, for ever.
    pub fn file(path: &'a Path) -> Self {
        LockPlace {
            path,
            kind: PlaceKind::File,
        }
    }

    /// A directory that carries the lock itself, so that nothing has to be created: it works on a
    /// read-only file system too. Every user who may read it can hold the lock: it is for
    /// directories that are private. (Where directories cannot be locked, a file `.lock` in it does.)
    pub fn directory(path: &'a Path) -> Self {
        LockPlace {
            path,
            kind: PlaceKind::Directory,
        }
    }

    /// Waits for the lock, however long that takes.
    ///
    /// # Errors
    /// When the place cannot be opened or locked.
    pub fn lock(self) -> Result<FileLock, PathError> {
        loop {
            let file = self.open()?;
            match file.lock() {
                Ok(()) if self.is_still(&file) => return Ok(FileLock { file }),
                // Removed or replaced meanwhile: what we hold keeps no other process out.
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e).at("lock", self.path),
            }
        }
    }

    /// The lock, or none when another process (or another part of this one) holds it.
    ///
    /// # Errors
    /// When the place cannot be opened or locked; of kind
    /// [`ReadOnlyFilesystem`](io::ErrorKind::ReadOnlyFilesystem) where the file is missing and
    /// cannot be created, so that nothing there can change either.
    pub fn try_lock(self) -> Result<Option<FileLock>, PathError> {
        loop {
            let file = self.open()?;
            match file.try_lock() {
                Ok(()) if self.is_still(&file) => return Ok(Some(FileLock { file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(e)) => return Err(e).at("lock", self.path),
            }
        }
    }

    /// Tries again and again for as long as `go_on` agrees; none when it no longer does. It is
    /// asked before each pause with the number of the pause, 0 first: the moment to tell the user
    /// what is waited for. Pauses last at most 32 ms.
    ///
    /// # Errors
    /// As [`LockPlace::try_lock`].
    pub fn lock_while(
        self,
        mut go_on: impl FnMut(u32) -> bool,
    ) -> Result<Option<FileLock>, PathError> {
        let mut pause = Duration::from_millis(1);
        let mut pauses = 0_u32;
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(Some(lock));
            }
            if !go_on(pauses) {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            pauses = pauses.saturating_add(1);
        }
    }

    /// The process that holds the lock, where there is one and this process may know: others hide
    /// in namespaces that are not ours.
    #[cfg(target_os = "linux")]
    pub fn held_by(self) -> Option<LockingProcess> {
        crate::locking_process::holding(self.path)
    }

    fn open(self) -> Result<File, PathError> {
        match self.kind {
            PlaceKind::File => open_lock_file(self.path).at("open", self.path),
            PlaceKind::Directory => open_directory(self.path).at("open", self.path),
        }
    }

    #[cfg(unix)]
    fn is_still(self, file: &File) -> bool {
        use std::os::unix::fs::MetadataExt;
        // A directory may be reached through a link; a lock file may not.
        let there = match self.kind {
            PlaceKind::File => std::fs::symlink_metadata(self.path),
            PlaceKind::Directory => std::fs::metadata(self.path),
        };
        match (file.metadata(), there) {
            (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        }
    }

    /// An open file can be neither removed nor replaced there.
    #[cfg(not(unix))]
    fn is_still(self, _file: &File) -> bool {
        true
    }
}

#[cfg(unix)]
fn open_lock_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .inspect(close_to_others)
}

/// A file of an earlier version, or of a copied directory. Where it is not ours it stays as it is.
#[cfg(unix)]
fn close_to_others(file: &File) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let is_open = |found: &std::fs::Metadata| {
        found.mode() & 0o077 != 0 && found.uid() == rustix::process::geteuid().as_raw()
    };
    if file.metadata().is_ok_and(|found| is_open(&found)) {
        _ = file.set_permissions(std::fs::Permissions::from_mode(0o600));
    }
}

#[cfg(not(unix))]
fn open_lock_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

#[cfg(unix)]
fn open_directory(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(not(unix))]
fn open_directory(path: &Path) -> io::Result<File> {
    open_lock_file(&path.join(DIRECTORY_LOCK))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn one_holds_it_and_the_next_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let place = LockPlace::file(&path);
        let held = place.try_lock().unwrap().unwrap();
        assert!(place.try_lock().unwrap().is_none());
        let (tell, told) = channel();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let lock = place.lock_while(|pause| {
                    if pause == 0 {
                        tell.send(()).unwrap();
                    }
                    true
                });
                assert!(lock.unwrap().is_some());
            });
            told.recv().unwrap();
            drop(held);
            waiter.join().unwrap();
        });
        place.lock().unwrap();
    }

    #[test]
    fn waiting_ends_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let place = LockPlace::directory(dir.path());
        let _held = place.lock().unwrap();
        let mut asked = Vec::new();
        let lock = place.lock_while(|pause| {
            asked.push(pause);
            pause < 2
        });
        assert!(lock.unwrap().is_none());
        assert_eq!(asked, [0, 1, 2]);
    }

    #[test]
    fn a_directory_and_a_file_in_it_are_two_places() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other");
        let _directory = LockPlace::directory(dir.path()).lock().unwrap();
        assert!(LockPlace::file(&path).try_lock().unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_file_that_was_replaced_locks_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let place = LockPlace::file(&path);
        let old = place.lock().unwrap();
        fs::remove_file(&path).unwrap();
        // The old file is still locked, but it is no longer the place.
        let new = place.try_lock().unwrap().unwrap();
        assert!(place.try_lock().unwrap().is_none());
        drop((old, new));
    }

    /// The process that waits has the old file open when the holder removes it.
    #[cfg(unix)]
    #[test]
    fn a_process_that_waits_for_a_removed_file_gets_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let place = LockPlace::file(&path);
        let held = place.lock().unwrap();
        let (tell, told) = channel();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(move || {
                tell.send(()).unwrap();
                place.lock().unwrap()
            });
            told.recv().unwrap();
            fs::remove_file(&path).unwrap();
            drop(held);
            let lock = waiter.join().unwrap();
            assert!(place.is_still(lock.file()));
            assert!(place.try_lock().unwrap().is_none());
        });
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_file_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (made, found) = (dir.path().join("made"), dir.path().join("found"));
        fs::write(&found, "").unwrap();
        fs::set_permissions(&found, fs::Permissions::from_mode(0o644)).unwrap();
        for path in [&made, &found] {
            let lock = LockPlace::file(path).lock().unwrap();
            let mode = lock.file().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
    }

    #[test]
    fn the_lock_of_what_others_read_stands_beside_it() {
        for (path, lock) in [
            ("/a/repository", "/a/.repository.lock"),
            ("repository/", ".repository.lock"),
            ("/", "/.lock"),
        ] {
            assert_eq!(lock_file_beside(Path::new(path)), Path::new(lock));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_holder_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let place = LockPlace::file(&path);
        assert_eq!(place.held_by(), None);
        let held = place.lock().unwrap();
        let holder = place.held_by().unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.command.is_empty());
        drop(held);
        assert_eq!(place.held_by(), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_no_lock_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let elsewhere = dir.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(LockPlace::file(&path).lock().is_err());
        assert!(!elsewhere.exists());
    }
}
