//! The locks across processes. The lock of the store is held for as long as something in it is
//! exchanged; whoever downloads holds the lock of the downloads for as long as that takes, and
//! the one of the store only for the end. Who wants both takes that of the downloads first.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::files;
use crate::{Cancel, Reason};

/// The longest pause between two looks at a lock that somebody else has.
const PAUSE: Duration = Duration::from_millis(32);

/// A right, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// The right to change the store at `base`, which is created if it is not there. `busy` is called
/// once when somebody else has it.
pub(crate) fn store(base: &Path, cancel: &Cancel, busy: impl FnOnce()) -> Result<Lock, Reason> {
    files::create_dir(base)?;
    wait(open(base, ".lock")?, base, cancel, busy)
}

/// The right to download into the staging directory of the store at `base`, and to take up the
/// metadata of repositories.
pub(crate) fn downloads(base: &Path, cancel: &Cancel, busy: impl FnOnce()) -> Result<Lock, Reason> {
    files::create_dir(base)?;
    wait(open(base, ".download.lock")?, base, cancel, busy)
}

/// The same, or none when somebody is downloading.
pub(crate) fn no_downloads(base: &Path) -> Result<Option<Lock>, Reason> {
    Ok(match attempt(open(base, ".download.lock")?, base)? {
        Attempt::Held(lock) => Some(lock),
        Attempt::Busy(_) => None,
    })
}

fn open(base: &Path, name: &str) -> Result<File, Reason> {
    let path = base.join(name);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)) {
        // A read-only store can still be merged from; its directory serves as well.
        Err(rustix::io::Errno::ROFS) => {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(base, flags, Mode::empty())
        }
        other => other,
    };
    opened
        .map(File::from)
        .map_err(|e| Reason::file("open", &path)(e.into()))
}

enum Attempt {
    Held(Lock),
    Busy(File),
}

fn attempt(file: File, base: &Path) -> Result<Attempt, Reason> {
    loop {
        return match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Attempt::Held(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Attempt::Busy(file)),
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => Err(Reason::file("lock", base)(e.into())),
        };
    }
}

/// Looks again and again, so that a request to stop is noticed as well.
fn wait(file: File, base: &Path, cancel: &Cancel, busy: impl FnOnce()) -> Result<Lock, Reason> {
    let mut file = match attempt(file, base)? {
        Attempt::Held(lock) => return Ok(lock),
        Attempt::Busy(file) => file,
    };
    busy();
    let mut pause = Duration::from_millis(1);
    loop {
        crate::cancel::check(cancel)?;
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE);
        file = match attempt(file, base)? {
            Attempt::Held(lock) => return Ok(lock),
            Attempt::Busy(file) => file,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_excludes() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("store");
        let never = Cancel::new();
        let held = store(&base, &never, || panic!("nobody has it")).unwrap();
        // The downloads have one of their own.
        let downloading = downloads(&base, &never, || panic!("nobody has it")).unwrap();
        assert!(no_downloads(&base).unwrap().is_none());
        drop(downloading);
        assert!(no_downloads(&base).unwrap().is_some());
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                store(&base, &never, || tell.send(()).unwrap()).unwrap();
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
        let _held = store(dir.path(), &cancel, || {}).unwrap();
        let stop = || cancel.cancel();
        let error = store(dir.path(), &cancel, stop).unwrap_err();
        assert!(matches!(error, Reason::Cancelled), "{error}");
    }
}
