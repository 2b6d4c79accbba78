//! The same work for many things, on all processors.

use std::sync::Mutex;
use std::thread;

use crate::error::BuildError;

/// Does `work` for each of `things`, which it is told with its place among them. The results are in the
/// order of the things; of several failures the first one in that order is answered.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    things: &[T],
    work: impl Fn(usize, &T) -> Result<R, BuildError> + Sync,
) -> Result<Vec<R>, BuildError> {
    let left = Mutex::new(things.iter().enumerate());
    let next = || left.lock().ok().and_then(|mut left| left.next());
    let worker = || {
        let mut done = Vec::new();
        while let Some((nth, thing)) = next() {
            let result = work(nth, thing);
            let is_last = result.is_err();
            done.push((nth, result));
            if is_last {
                break;
            }
        }
        done
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let mut all = Vec::with_capacity(things.len());
    thread::scope(|scope| {
        let started: Vec<_> = (0..processors.min(things.len()))
            .map(|_| scope.spawn(worker))
            .collect();
        for worker in started {
            match worker.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    all.sort_by_key(|(nth, _)| *nth);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_things() {
        let things: Vec<usize> = (100..400).collect();
        let doubled = in_parallel(&things, |nth, thing| Ok((nth, thing * 2))).unwrap();
        let expected: Vec<_> = (100..400).map(|thing| (thing - 100, thing * 2)).collect();
        assert_eq!(doubled, expected);
        assert!(in_parallel(&[(); 0], |_, ()| Ok(())).unwrap().is_empty());
    }

    #[test]
    fn the_first_failure_is_answered() {
        let things: Vec<usize> = (0..100).collect();
        for _ in 0..20 {
            let error = in_parallel(&things, |_, thing| match thing {
                50.. => Err(BuildError::Invalid(format!("thing {thing}"))),
                _ => Ok(()),
            });
            assert_eq!(error.unwrap_err().to_string(), "thing 50");
        }
    }
}
