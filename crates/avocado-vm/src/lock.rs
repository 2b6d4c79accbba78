//! The lock of a state directory: one owner of the VM at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use avocado_qemu::Identity;
use serde::{Deserialize, Serialize};

use crate::dir::{self, StateDir};
use crate::error::Error;

/// How long somebody may hold the lock only to look whether it is held.
const GLANCE: Duration = Duration::from_millis(500);

/// Who has the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Which process.
    #[serde(flatten)]
    pub process: Identity,
    /// What it does, for a person: `avocado vm update`.
    pub doing: String,
}

/// The right to run the VM or to change its files, until it is dropped. The descriptor is not
/// inherited, so no child (least of all QEMU) keeps it.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock. `doing` is what others are told while it is held.
    pub fn take(dir: &StateDir, doing: &str) -> Result<Lock, Error> {
        dir.create()?;
        let path = dir.file(dir::File::Lock);
        let mut file = open(&path).map_err(Error::file("open", &path))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => return Err(Error::file("lock", &path)(e)),
            }
            let holder = recorded(&mut file).filter(|holder| holder.process.is_alive());
            // Without a living holder on record somebody only looks, or is about to sign.
            if holder.is_some() || start.elapsed() > GLANCE {
                return Err(busy(dir, holder));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut lock = Lock { file };
        if let Some(process) = Identity::of(std::process::id()) {
            let holder = Holder {
                process,
                doing: doing.to_owned(),
            };
            lock.sign(&holder).map_err(Error::file("write", &path))?;
        }
        Ok(lock)
    }

    fn sign(&mut self, holder: &Holder) -> std::io::Result<()> {
        let text = serde_json::to_vec(holder)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&text)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Nobody holds it: nobody shall be named. Whoever dies without this is recognised as dead.
        _ = self.file.set_len(0);
    }
}

/// Who has the lock, if anybody does. `Some(None)` is somebody unknown.
pub fn holder(dir: &StateDir) -> Result<Option<Option<Holder>>, Error> {
    let path = dir.file(dir::File::Lock);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::file("open", &path)(e)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(
            recorded(&mut file).filter(|holder| holder.process.is_alive()),
        )),
        Err(TryLockError::Error(e)) => Err(Error::file("lock", &path)(e)),
    }
}

/// Returns when nobody has the lock.
pub fn wait(dir: &StateDir) -> Result<(), Error> {
    let path = dir.file(dir::File::Lock);
    match File::open(&path) {
        Ok(file) => file.lock_shared().map_err(Error::file("lock", &path)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::file("open", &path)(e)),
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn recorded(file: &mut File) -> Option<Holder> {
    let mut text = Vec::new();
    file.rewind().ok()?;
    file.take(4096).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn busy(dir: &StateDir, holder: Option<Holder>) -> Error {
    Error::Busy {
        dir: dir.root().to_owned(),
        holder: match holder {
            Some(holder) => format!("`{}` (process {})", holder.doing, holder.process.pid),
            None => "another process".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn there_is_one_holder_and_it_is_named() {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path().join("vm"));
        assert_eq!(holder(&dir).unwrap(), None);
        let lock = Lock::take(&dir, "avocado vm update").unwrap();
        let error = Lock::take(&dir, "avocado vm reset").unwrap_err();
        let pid = std::process::id();
        assert_eq!(
            error.to_string(),
            format!(
                "the VM in {} is in use by `avocado vm update` (process {pid})",
                dir.root().display()
            )
        );
        let named = holder(&dir).unwrap().unwrap().unwrap();
        assert_eq!(
            (named.process.pid, named.doing.as_str()),
            (pid, "avocado vm update")
        );
        drop(lock);
        assert_eq!(holder(&dir).unwrap(), None);
        Lock::take(&dir, "avocado vm reset").unwrap();
    }

    #[test]
    fn a_dead_holder_on_record_is_nobody() {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path());
        let dead = Holder {
            process: Identity {
                pid: std::process::id(),
                started: "long ago".into(),
            },
            doing: "avocado vm supervise".into(),
        };
        let path = dir.file(dir::File::Lock);
        std::fs::write(&path, serde_json::to_vec(&dead).unwrap()).unwrap();
        assert_eq!(holder(&dir).unwrap(), None);
        Lock::take(&dir, "x").unwrap();
        // Held by somebody who did not sign.
        std::fs::write(&path, serde_json::to_vec(&dead).unwrap()).unwrap();
        let file = open(&path).unwrap();
        file.try_lock().unwrap();
        assert_eq!(holder(&dir).unwrap(), Some(None));
        let error = Lock::take(&dir, "x").unwrap_err();
        assert!(error.to_string().ends_with("in use by another process"));
    }

    #[test]
    fn whoever_looks_is_in_nobodys_way() {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path());
        drop(Lock::take(&dir, "x").unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    holder(&dir).unwrap();
                }
            });
            for _ in 0..500 {
                drop(Lock::take(&dir, "x").unwrap());
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
