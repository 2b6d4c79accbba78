//! The lock of a state directory: one owner of the VM at a time.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::time::{Duration, Instant};

use avocado_fs::{FileLock, LockPlace};
use avocado_qemu::ProcessIdentity;
use serde::{Deserialize, Serialize};

use crate::dir::{StateDir, StateFile};
use crate::error::VmError;

/// How long another process may hold the lock only to look whether it is held.
const GLANCE: Duration = Duration::from_millis(500);

/// Who has the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// Which process.
    #[serde(flatten)]
    pub process: ProcessIdentity,
    /// What it does, for a person: `avocado vm update`.
    pub doing: String,
}

/// The right to run the VM or to change its files, until it is dropped. The descriptor is not
/// inherited, so no child (least of all QEMU) keeps it.
#[derive(Debug)]
pub struct VmLock {
    lock: FileLock,
}

impl VmLock {
    /// Takes the lock. `doing` is what others are told while it is held.
    pub fn take(dir: &StateDir, doing: &str) -> Result<VmLock, VmError> {
        dir.create()?;
        let path = dir.file(StateFile::Lock);
        let start = Instant::now();
        let lock = loop {
            if let Some(lock) = LockPlace::file(&path).try_lock()? {
                break lock;
            }
            let holder = File::open(&path)
                .ok()
                .and_then(|mut file| living_holder(&mut file));
            // Without a living holder on record another process only looks, or is about to sign.
            if holder.is_some() || start.elapsed() > GLANCE {
                return Err(busy(dir, holder));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let lock = VmLock { lock };
        if let Some(process) = ProcessIdentity::of(std::process::id()) {
            let holder = LockHolder {
                process,
                doing: doing.to_owned(),
            };
            lock.sign(&holder).map_err(VmError::file("write", &path))?;
        }
        Ok(lock)
    }

    fn sign(&self, holder: &LockHolder) -> std::io::Result<()> {
        let text = serde_json::to_vec(holder)?;
        let mut file = self.lock.file();
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&text)
    }
}

impl Drop for VmLock {
    fn drop(&mut self) {
        // No process holds it from here on, so none shall be named. One that is killed before this is
        // recognised by its start time.
        _ = self.lock.file().set_len(0);
    }
}

/// Whether a process has the lock, and which.
#[derive(Debug, PartialEq, Eq)]
pub enum LockState {
    /// None has it.
    Free,
    /// This one has it.
    HeldBy(LockHolder),
    /// One has it that is not on record: it just took the lock, or it was killed and is still
    /// dying.
    HeldByUnknown,
}

/// Whether a process has the lock, and which.
pub fn state(dir: &StateDir) -> Result<LockState, VmError> {
    let path = dir.file(StateFile::Lock);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(LockState::Free),
        Err(e) => return Err(VmError::file("open", &path)(e)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(LockState::Free),
        Err(TryLockError::WouldBlock) => {
            Ok(living_holder(&mut file).map_or(LockState::HeldByUnknown, LockState::HeldBy))
        }
        Err(TryLockError::Error(e)) => Err(VmError::file("lock", &path)(e)),
    }
}

/// Returns when no process has the lock.
pub fn wait(dir: &StateDir) -> Result<(), VmError> {
    let path = dir.file(StateFile::Lock);
    match File::open(&path) {
        Ok(file) => file.lock_shared().map_err(VmError::file("lock", &path)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(VmError::file("open", &path)(e)),
    }
}

/// The process that signed the lock file, if it lives.
fn living_holder(file: &mut File) -> Option<LockHolder> {
    let mut text = Vec::new();
    file.rewind().ok()?;
    file.take(4096).read_to_end(&mut text).ok()?;
    let holder: LockHolder = serde_json::from_slice(&text).ok()?;
    holder.process.is_alive().then_some(holder)
}

fn busy(dir: &StateDir, holder: Option<LockHolder>) -> VmError {
    VmError::Busy {
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
        assert_eq!(state(&dir).unwrap(), LockState::Free);
        let lock = VmLock::take(&dir, "avocado vm update").unwrap();
        let error = VmLock::take(&dir, "avocado vm reset").unwrap_err();
        let pid = std::process::id();
        assert_eq!(
            error.to_string(),
            format!(
                "the VM in {} is in use by `avocado vm update` (process {pid})",
                dir.root().display()
            )
        );
        let LockState::HeldBy(named) = state(&dir).unwrap() else {
            panic!("the holder is not named");
        };
        assert_eq!(
            (named.process.pid, named.doing.as_str()),
            (pid, "avocado vm update")
        );
        drop(lock);
        assert_eq!(state(&dir).unwrap(), LockState::Free);
        VmLock::take(&dir, "avocado vm reset").unwrap();
    }

    #[test]
    fn a_dead_holder_on_record_is_nobody() {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path());
        let dead = LockHolder {
            process: ProcessIdentity {
                pid: std::process::id(),
                started: "long ago".into(),
            },
            doing: "avocado vm supervise".into(),
        };
        let path = dir.file(StateFile::Lock);
        std::fs::write(&path, serde_json::to_vec(&dead).unwrap()).unwrap();
        assert_eq!(state(&dir).unwrap(), LockState::Free);
        VmLock::take(&dir, "x").unwrap();
        // Held by a process that did not sign.
        std::fs::write(&path, serde_json::to_vec(&dead).unwrap()).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        file.try_lock().unwrap();
        assert_eq!(state(&dir).unwrap(), LockState::HeldByUnknown);
        let error = VmLock::take(&dir, "x").unwrap_err();
        assert!(error.to_string().ends_with("in use by another process"));
    }

    #[test]
    fn whoever_looks_is_in_nobodys_way() {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path());
        drop(VmLock::take(&dir, "x").unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    state(&dir).unwrap();
                }
            });
            for _ in 0..500 {
                drop(VmLock::take(&dir, "x").unwrap());
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
