//! The engine: runs the tasks of a graph in parallel, in the order of their needs, and skips
//! those whose stamp says that their result is already there.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use avocado_events::{Cancel, Event, Sink, Status};
use avocado_manifest::Digest;

use crate::stamp::{Outcome, Slot, Stamps, hash};
use crate::{Error, tree};

/// The place of a task in its [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TaskId(usize);

/// One node of the graph.
pub(crate) trait Task: Send + Sync {
    /// The stage under which it reports.
    fn name(&self) -> String;
    /// Where its stamp is kept.
    fn slot(&self) -> Slot;
    /// Everything that it consumes and nothing else, as far as it is known by now.
    fn inputs(&self, done: &Done<'_>) -> Result<serde_json::Value, Error>;
    /// The files and directories that it made.
    fn outputs(&self, outcome: &Outcome) -> Vec<PathBuf>;
    /// What to remember as its inputs: those from before the run, so that what a user edits
    /// meanwhile counts as a change. Only what the step itself fills in is taken from after it.
    fn settled(&self, before: serde_json::Value) -> serde_json::Value {
        before
    }
    /// Does the work.
    fn run(&self, done: &Done<'_>, sink: &dyn Sink) -> Result<Outcome, Error>;
}

struct Node<'a> {
    task: Box<dyn Task + 'a>,
    needs: Vec<TaskId>,
}

/// Tasks and their needs. A task can only need tasks that were added before it, so there are no
/// cycles.
#[derive(Default)]
pub(crate) struct Graph<'a> {
    nodes: Vec<Node<'a>>,
}

impl<'a> Graph<'a> {
    pub(crate) fn add(&mut self, task: impl Task + 'a, needs: &[TaskId]) -> TaskId {
        self.nodes.push(Node {
            task: Box::new(task),
            needs: needs.to_vec(),
        });
        TaskId(self.nodes.len() - 1)
    }
}

/// The outcomes of the tasks that are finished.
pub(crate) struct Done<'r>(&'r [Option<Outcome>]);

impl Done<'_> {
    /// The outcome of a task that was needed.
    pub(crate) fn get(&self, id: TaskId) -> Result<&Outcome, Error> {
        self.0
            .get(id.0)
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::Invalid("a step ran before what it needs".into()))
    }

    /// What a task made that may not be there.
    pub(crate) fn digest(&self, id: Option<TaskId>) -> Result<Option<Digest>, Error> {
        id.map(|id| Ok(self.get(id)?.digest)).transpose()
    }
}

/// What became of the tasks, in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(crate) ran: Vec<String>,
    pub(crate) skipped: Vec<String>,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Finished {
    /// The outcome of a task of the graph.
    pub(crate) fn outcome(&self, id: TaskId) -> Result<&Outcome, Error> {
        self.outcomes
            .get(id.0)
            .ok_or_else(|| Error::Invalid("a step has no outcome".into()))
    }
}

struct State {
    waiting: BTreeSet<usize>,
    outcomes: Vec<Option<Outcome>>,
    ran: BTreeSet<usize>,
    failure: Option<Error>,
}

/// Runs a graph with `jobs` tasks at once. After the first failure no further task is started;
/// those at work finish, and keep their results.
pub(crate) fn run(
    graph: &Graph<'_>,
    jobs: usize,
    stamps: &Stamps<'_>,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<Finished, Error> {
    let nodes = &graph.nodes;
    for node in nodes {
        sink.emit(Event::step(node.task.name(), Status::Pending, ""));
    }
    let state = Mutex::new(State {
        waiting: (0..nodes.len()).collect(),
        outcomes: vec![None; nodes.len()],
        ran: BTreeSet::new(),
        failure: None,
    });
    let changed = Condvar::new();
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, nodes.len().max(1)) {
            scope.spawn(|| work(nodes, &state, &changed, stamps, cancel, sink));
        }
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = state.failure {
        return Err(error);
    }
    let mut finished = Finished::default();
    for (index, (node, outcome)) in nodes.iter().zip(state.outcomes).enumerate() {
        let Some(outcome) = outcome else {
            return Err(Error::Cancelled);
        };
        let list = if state.ran.contains(&index) {
            &mut finished.ran
        } else {
            &mut finished.skipped
        };
        list.push(node.task.name());
        finished.outcomes.push(outcome);
    }
    Ok(finished)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One worker: takes ready tasks until there are none left to come.
fn work(
    nodes: &[Node<'_>],
    state: &Mutex<State>,
    changed: &Condvar,
    stamps: &Stamps<'_>,
    cancel: &Cancel,
    sink: &dyn Sink,
) {
    loop {
        let mut guard = lock(state);
        let (index, outcomes) = loop {
            if guard.failure.is_some() || guard.waiting.is_empty() {
                return;
            }
            if cancel.is_cancelled() {
                guard.failure = Some(Error::Cancelled);
                changed.notify_all();
                return;
            }
            let ready = guard.waiting.iter().copied().find(|index| {
                let needs = &nodes[*index].needs;
                needs.iter().all(|need| guard.outcomes[need.0].is_some())
            });
            match ready {
                Some(index) => {
                    guard.waiting.remove(&index);
                    break (index, guard.outcomes.clone());
                }
                None => guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(guard);
        let task = &*nodes[index].task;
        let result = one(task, &Done(&outcomes), stamps, sink);
        let mut guard = lock(state);
        match result {
            Ok((outcome, ran)) => {
                guard.outcomes[index] = Some(outcome);
                if ran {
                    guard.ran.insert(index);
                }
            }
            Err(error) => {
                let cancelled = error.is_cancelled();
                let text = if cancelled {
                    "stopped".to_owned()
                } else {
                    chain(&error)
                };
                sink.emit(Event::step(task.name(), Status::Failed, text));
                if guard.failure.is_none() {
                    guard.failure = Some(if cancelled {
                        Error::Cancelled
                    } else {
                        Error::Step {
                            step: task.name(),
                            source: Box::new(error),
                        }
                    });
                }
            }
        }
        drop(guard);
        changed.notify_all();
    }
}

fn chain(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Runs or skips one task; says which.
fn one(
    task: &dyn Task,
    done: &Done<'_>,
    stamps: &Stamps<'_>,
    sink: &dyn Sink,
) -> Result<(Outcome, bool), Error> {
    let (name, slot) = (task.name(), task.slot());
    let inputs = task.inputs(done)?;
    let reason = match stamps.read(&slot, &hash(&inputs)) {
        Ok(outcome) => {
            sink.emit(Event::step(name, Status::Skipped, "up to date"));
            return Ok((outcome, false));
        }
        Err(reason) => reason,
    };
    sink.emit(Event::step(name.clone(), Status::Running, reason));
    let before = stamps.forget(&slot)?;
    let outcome = task.run(done, sink)?;
    let outputs = task.outputs(&outcome);
    // The image of an earlier version, say: nobody would look after it any more.
    for stale in before.iter().filter(|path| !outputs.contains(path)) {
        tree::clear(stale)?;
    }
    stamps.write(&slot, hash(&task.settled(inputs)), &outcome, &outputs)?;
    sink.emit(Event::step(name, Status::Success, ""));
    Ok((outcome, true))
}
