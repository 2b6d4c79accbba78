//! Which task is next, and what its end means for the others.

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use avocado_events::{Cancel, Event, Sink, StepStatus, chain};

use crate::finished::Outcome;
use crate::node::Node;
use crate::ready::ReadyQueue;
use crate::up_to_date::{ResultStores, TaskFailure, UpToDate, UpToDateBy};
use crate::{AnyTaskId, EngineError, Finished, Needs, TaskError};

pub(crate) fn run<E: TaskError>(
    nodes: &[Node<'_, E>],
    jobs: usize,
    stores: ResultStores<'_>,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<Finished, EngineError<E>> {
    for node in nodes {
        sink.emit(Event::step(&node.stage, StepStatus::Pending, ""));
    }
    let scheduler = Scheduler {
        nodes,
        outcomes: nodes.iter().map(|_| OnceLock::new()).collect(),
        progress: Mutex::new(Progress {
            queue: ReadyQueue::new(nodes.iter().map(|node| node.needs.as_slice())),
            ways: vec![None; nodes.len()],
            failed: None,
            stops: false,
        }),
        changed: Condvar::new(),
        stores,
        cancel,
        sink,
    };
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, nodes.len().max(1)) {
            scope.spawn(|| scheduler.work());
        }
    });
    scheduler.finish()
}

struct Scheduler<'r, 'a, E> {
    nodes: &'r [Node<'a, E>],
    /// By index of the task. Each is set once, and read without the lock.
    outcomes: Vec<OnceLock<Outcome>>,
    progress: Mutex<Progress<E>>,
    /// A task ended, or the run did.
    changed: Condvar,
    stores: ResultStores<'r>,
    cancel: &'r Cancel,
    sink: &'r dyn Sink,
}

struct Progress<E> {
    /// The tasks that were not started.
    queue: ReadyQueue,
    /// By index of the task: how it came to be up to date.
    ways: Vec<Option<UpToDateBy>>,
    /// Why the run fails.
    failed: Option<RunEnd<E>>,
    /// No further task is started.
    stops: bool,
}

impl<E> Progress<E> {
    /// The run ends here, for the first of all reasons.
    fn stop(&mut self, why: RunEnd<E>) {
        self.failed.get_or_insert(why);
        self.stops = true;
    }
}

enum RunEnd<E> {
    Failed {
        index: usize,
        failure: TaskFailure<E>,
    },
    Stopped,
    /// A task panicked, and the panic goes on in the thread that waits for all of them.
    Panicked,
}

impl<E: TaskError> Scheduler<'_, '_, E> {
    /// One worker: takes ready tasks until there are none left to come.
    fn work(&self) {
        let _told = TellOfPanic(self);
        while let Some(index) = self.next() {
            let node = &self.nodes[index];
            let _span = tracing::info_span!("step", stage = %node.stage).entered();
            tracing::debug!("begins");
            let needs = Needs {
                reader: &node.stage,
                declared: &node.declared,
                outcomes: &self.outcomes,
            };
            let result = node
                .task
                .bring_up_to_date(&node.stage, needs, &self.stores, self.sink);
            match &result {
                Ok(done) => tracing::debug!(by = ?done.by, "ended"),
                Err(_) => tracing::debug!("failed"),
            }
            self.ended(index, result);
        }
    }

    /// Waits for a task that can be started; `None` when there will be none.
    fn next(&self) -> Option<usize> {
        let mut progress = self.progress();
        loop {
            if progress.stops || progress.queue.is_empty() {
                return None;
            }
            if self.cancel.is_cancelled() {
                progress.stop(RunEnd::Stopped);
                self.changed.notify_all();
                return None;
            }
            if let Some(index) = progress.queue.take() {
                return Some(index);
            }
            progress = self
                .changed
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn ended(&self, index: usize, result: Result<UpToDate, TaskFailure<E>>) {
        let mut progress = self.progress();
        match result {
            Ok(UpToDate { outcome, by }) => {
                // Set once: a task is taken from the queue by one worker.
                let _ = self.outcomes[index].set(outcome);
                progress.ways[index] = Some(by);
                progress.queue.finished(index);
            }
            Err(failure) => {
                let node = &self.nodes[index];
                let (status, text, end) = match failure {
                    TaskFailure::Task(error) if error.is_cancelled() => {
                        (StepStatus::Stopped, String::new(), RunEnd::Stopped)
                    }
                    failure => {
                        let text = match &failure {
                            TaskFailure::Task(error) => chain(error),
                            TaskFailure::Stamp(error) => chain(error),
                        };
                        (StepStatus::Failed, text, RunEnd::Failed { index, failure })
                    }
                };
                self.sink.emit(Event::step(&node.stage, status, text));
                progress.queue.failed();
                if node.failure_stops_others || matches!(end, RunEnd::Stopped) {
                    progress.stop(end);
                } else {
                    progress.failed.get_or_insert(end);
                }
            }
        }
        drop(progress);
        self.changed.notify_all();
    }

    fn progress(&self) -> MutexGuard<'_, Progress<E>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(self) -> Result<Finished, EngineError<E>> {
        let progress = self
            .progress
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        match progress.failed {
            None => {}
            Some(RunEnd::Failed { index, failure }) => {
                let stage = self.nodes[index].stage.clone();
                return Err(match failure {
                    TaskFailure::Task(source) => EngineError::Task { stage, source },
                    TaskFailure::Stamp(source) => EngineError::Stamp { stage, source },
                });
            }
            Some(RunEnd::Stopped | RunEnd::Panicked) => return Err(EngineError::Stopped),
        }
        let (mut ran, mut skipped, mut from_cache) = (Vec::new(), Vec::new(), Vec::new());
        for (node, by) in self.nodes.iter().zip(&progress.ways) {
            let stage = || node.stage.clone();
            match by {
                Some(UpToDateBy::Run) => ran.push(stage()),
                Some(UpToDateBy::SharedResult) => {
                    skipped.push(stage());
                    from_cache.push(stage());
                }
                Some(UpToDateBy::Stamp) | None => skipped.push(stage()),
            }
        }
        Ok(Finished {
            ran,
            skipped,
            from_cache,
            all: (0..self.nodes.len()).map(AnyTaskId).collect(),
            outcomes: self.outcomes,
        })
    }
}

/// Wakes the other workers when a task panics. They would wait for its end, and the thread that
/// is to pass the panic on would wait for them.
struct TellOfPanic<'s, 'r, 'a, E: TaskError>(&'s Scheduler<'r, 'a, E>);

impl<E: TaskError> Drop for TellOfPanic<'_, '_, '_, E> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.progress().stop(RunEnd::Panicked);
            self.0.changed.notify_all();
        }
    }
}
