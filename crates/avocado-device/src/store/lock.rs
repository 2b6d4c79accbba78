//! The locks across processes. The lock of the store is held for as long as something in it is
//! exchanged. A download holds the lock of the downloads for as long as it takes, and the one of
//! the store only for its end. An operation that needs both takes that of the downloads first. Whoever writes
//! the OS slot that does not run holds the lock of the slots, for which no process waits.
//!
//! Where a lock file is missing and cannot be created, because the file system is read-only or
//! full, the directory of the store carries the lock of the store. No download can begin there, so
//! that lock is none, and nothing but an activation writes a slot, which has the lock of the store.

use std::io;
use std::path::Path;

use avocado_events::Cancel;
use avocado_fs::{FileLock, LockPlace, PathError};

use super::files;
use crate::error::FailureReason;

/// The lock of the store, or that of its downloads, until it is dropped.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _lock: Option<FileLock>,
}

/// Locks the store at `base`, which is created if it is not there. `waiting` is called once when
/// another process, or another thread of this one, holds the lock.
pub(crate) fn lock_store(
    base: &Path,
    cancel: &Cancel,
    waiting: impl FnOnce(),
) -> Result<StoreLock, FailureReason> {
    lock(base, STORE, cancel, waiting)
}

/// Locks the staging directory of the store at `base`, and the metadata of repositories.
pub(crate) fn lock_downloads(
    base: &Path,
    cancel: &Cancel,
    waiting: impl FnOnce(),
) -> Result<StoreLock, FailureReason> {
    lock(base, DOWNLOADS, cancel, waiting)
}

/// The same; none while a download is running.
pub(crate) fn try_lock_downloads(base: &Path) -> Result<Option<StoreLock>, FailureReason> {
    try_lock(base, DOWNLOADS)
}

/// Locks the OS slot that does not run; none while another process, or another thread of this one,
/// writes it. An operation that has the lock of the store may hold this one too, or the other way round: no
/// process waits for it.
pub(crate) fn try_lock_slots(base: &Path) -> Result<Option<StoreLock>, FailureReason> {
    files::create_dir(base)?;
    try_lock(base, SLOTS)
}

const STORE: &str = ".lock";
const DOWNLOADS: &str = ".download.lock";
const SLOTS: &str = ".os-slots.lock";

impl StoreLock {
    fn new(lock: FileLock) -> Self {
        StoreLock { _lock: Some(lock) }
    }
}

fn try_lock(base: &Path, name: &str) -> Result<Option<StoreLock>, FailureReason> {
    match LockPlace::file(&base.join(name)).try_lock() {
        Err(e) if cannot_create(&e) => Ok(Some(StoreLock { _lock: None })),
        other => Ok(other?.map(StoreLock::new)),
    }
}

fn lock(
    base: &Path,
    name: &str,
    cancel: &Cancel,
    waiting: impl FnOnce(),
) -> Result<StoreLock, FailureReason> {
    files::create_dir(base)?;
    let mut waiting = Some(waiting);
    // It tries again and again, so that a request to stop is noticed as well.
    let mut lock = |place: LockPlace<'_>| {
        place.lock_while(|_| {
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            !cancel.is_cancelled()
        })
    };
    let lock = match lock(LockPlace::file(&base.join(name))) {
        Err(e) if name == STORE && cannot_create(&e) => lock(LockPlace::directory(base)),
        other => other,
    };
    lock?.map(StoreLock::new).ok_or(FailureReason::Cancelled)
}

/// Whether a lock file is missing and there is no way to have it.
fn cannot_create(error: &PathError) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_excludes() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("store");
        let never = Cancel::new();
        let held = lock_store(&base, &never, || panic!("no process holds it")).unwrap();
        // The downloads have one of their own.
        let downloading = lock_downloads(&base, &never, || panic!("no process holds it")).unwrap();
        assert!(try_lock_downloads(&base).unwrap().is_none());
        drop(downloading);
        assert!(try_lock_downloads(&base).unwrap().is_some());
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                lock_store(&base, &never, || tell.send(()).unwrap()).unwrap();
            });
            told.recv().unwrap();
            drop(held);
            waiter.join().unwrap();
        });
    }

    #[test]
    fn waiting_can_be_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = Cancel::new();
        let _held = lock_store(dir.path(), &cancel, || {}).unwrap();
        let stop = || cancel.cancel();
        let error = lock_store(dir.path(), &cancel, stop).unwrap_err();
        assert!(matches!(error, FailureReason::Cancelled), "{error}");
    }
}
