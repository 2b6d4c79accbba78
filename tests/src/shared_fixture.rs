//! What is dear to make, shared by the cases of one test program.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A fixture that the first case makes which needs it, that the next ones get in turn, and that is
/// dropped with the last case which uses it or waits for it: what a `static` holds is never
/// dropped, and a device that is not would stay behind.
///
/// A case runs alone as well as among others, so it begins by bringing about what it needs. After
/// one that failed the fixture is made anew.
pub struct SharedFixture<T> {
    current: Mutex<Weak<Mutex<T>>>,
}

impl<T> SharedFixture<T> {
    /// Not made yet.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it is for statics")]
    pub const fn new() -> Self {
        SharedFixture {
            current: Mutex::new(Weak::new()),
        }
    }

    /// Runs a case on the fixture, which it has for itself meanwhile.
    pub fn run<R>(&self, make: impl Fn() -> T, case: impl FnOnce(&mut T) -> R) -> R {
        let shared = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            current.upgrade().unwrap_or_else(|| {
                let made = Arc::new(Mutex::new(make()));
                *current = Arc::downgrade(&made);
                made
            })
        };
        let mut fixture = shared.lock().unwrap_or_else(|failed| {
            let mut fixture = failed.into_inner();
            *fixture = make();
            shared.clear_poison();
            fixture
        });
        case(&mut fixture)
    }
}

impl<T> fmt::Debug for SharedFixture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedFixture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Counts how many of them there are.
    struct Counted<'a>(&'a AtomicU32);

    impl<'a> Counted<'a> {
        fn make(made: &AtomicU32, alive: &'a AtomicU32) -> Self {
            made.fetch_add(1, Ordering::SeqCst);
            alive.fetch_add(1, Ordering::SeqCst);
            Counted(alive)
        }
    }

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn it_lives_for_as_long_as_a_case_uses_it_or_waits() {
        let (made, alive) = (AtomicU32::new(0), AtomicU32::new(0));
        let shared = SharedFixture::new();
        let waits = Barrier::new(2);
        let make = || Counted::make(&made, &alive);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                shared.run(make, |_| {
                    waits.wait();
                    // Until the other one waits for its turn: it has its part of the fixture.
                    let parts = || shared.current.lock().unwrap().strong_count();
                    while parts() < 2 {
                        std::thread::yield_now();
                    }
                });
            });
            waits.wait();
            shared.run(make, |_| ());
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn after_a_case_that_failed_it_is_made_anew() {
        let (made, alive) = (AtomicU32::new(0), AtomicU32::new(0));
        let shared = SharedFixture::new();
        let make = || Counted::make(&made, &alive);
        // Held, as by a case that waits while another one fails.
        let held = shared.run(make, |_| shared.current.lock().unwrap().upgrade());
        assert!(held.is_some());
        let failed = catch_unwind(AssertUnwindSafe(|| {
            shared.run(make, |_| panic!("a case that fails"));
        }));
        assert!(failed.is_err());
        assert_eq!(made.load(Ordering::SeqCst), 1);
        shared.run(make, |_| ());
        shared.run(make, |_| ());
        assert_eq!(made.load(Ordering::SeqCst), 2);
        assert_eq!(alive.load(Ordering::SeqCst), 1);
        drop(held);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}
