//! The end of things, whichever way their owner ends.
//!
//! A [`CleanupGuard`] carries an action that undoes something. It happens once: when the guard is
//! dropped, or when SIGINT, SIGTERM or SIGHUP ends the process, the newest first.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::HarnessError;

type Action = Box<dyn FnOnce() + Send>;

/// An action, until it happened. It happens under the lock, so that the thread that comes second waits.
type Pending = Arc<Mutex<Option<Action>>>;

#[derive(Default)]
struct Book {
    pending: Vec<Pending>,
    ending: bool,
}

static BOOK: Mutex<Book> = Mutex::new(Book {
    pending: Vec::new(),
    ending: false,
});

fn happen(pending: &Pending) {
    let mut action = pending.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(action) = action.take() {
        action();
    }
}

/// Undoes something at the latest when it is dropped.
#[must_use = "what it guards ends when it is dropped"]
pub struct CleanupGuard(Pending);

impl std::fmt::Debug for CleanupGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

impl CleanupGuard {
    /// A guard for `action`, which must not panic and not make guards.
    ///
    /// # Errors
    /// The process ends already: the action happened, and nothing more should be started.
    pub fn new(action: impl FnOnce() + Send + 'static) -> Result<Self, HarnessError> {
        let pending: Pending = Arc::new(Mutex::new(Some(Box::new(action))));
        let mut book = BOOK.lock().unwrap_or_else(PoisonError::into_inner);
        if book.ending {
            drop(book);
            happen(&pending);
            return Err(HarnessError::Ending);
        }
        book.pending.push(pending.clone());
        Ok(CleanupGuard(pending))
    }
}

/// Fails when the process ends: then nothing more should be started.
pub(crate) fn check() -> Result<(), HarnessError> {
    let book = BOOK.lock().unwrap_or_else(PoisonError::into_inner);
    if book.ending {
        return Err(HarnessError::Ending);
    }
    Ok(())
}

impl Drop for CleanupGuard {
    fn drop(&mut self) {
        happen(&self.0);
        let mut book = BOOK.lock().unwrap_or_else(PoisonError::into_inner);
        book.pending.retain(|other| !Arc::ptr_eq(other, &self.0));
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP let all guards act before they end the process. Calling
/// it again changes nothing. [`TestDevice::boot`](crate::device::TestDevice::boot) calls it.
///
/// # Errors
/// The handlers could not be installed.
pub fn install() -> io::Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    static RUN_LOCK: Mutex<()> = Mutex::new(());
    let _lock = RUN_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if DONE.get().is_some() {
        return Ok(());
    }
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new()
        .name("cleanup".into())
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                end();
                // The process that waits for this one sees that a signal ended it.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        })?;
    let _ = DONE.set(());
    Ok(())
}

/// Where a signal ends the process, waits for that. What it undoes may be what a program waits for, which would
/// else come to an end of its own first, and with a status that tells of no signal.
pub fn wait_where_ending() {
    let ending = BOOK.lock().unwrap_or_else(PoisonError::into_inner).ending;
    if !ending {
        return;
    }
    loop {
        std::thread::park();
    }
}

fn end() {
    loop {
        let mut book = BOOK.lock().unwrap_or_else(PoisonError::into_inner);
        book.ending = true;
        let Some(pending) = book.pending.pop() else {
            return;
        };
        drop(book);
        happen(&pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_acts_once() {
        let count = Arc::new(Mutex::new(0));
        let guard = CleanupGuard::new({
            let count = count.clone();
            move || *count.lock().unwrap() += 1
        })
        .unwrap();
        let pending = guard.0.clone();
        assert_eq!(*count.lock().unwrap(), 0);
        drop(guard);
        happen(&pending);
        assert_eq!(*count.lock().unwrap(), 1);
    }
}
