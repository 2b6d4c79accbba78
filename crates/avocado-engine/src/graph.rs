use std::any::TypeId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::OnceLock;

use avocado_events::{Cancel, Sink};

use crate::finished::Outcome;
use crate::node::Node;
use crate::scheduler;
use crate::task::{Task, TaskId};
use crate::up_to_date::{ResultStores, TaskFailure};
use crate::{
    EngineError, Finished, GraphError, Needs, SharedResults, StampKey, StampStore, TaskError,
};

/// Tasks and what they need of each other. A task can need only tasks that were added before it,
/// so there are no cycles.
pub struct Graph<'a, E: TaskError> {
    nodes: Vec<Node<'a, E>>,
    /// The first task of each stamp.
    by_stamp: HashMap<StampKey, usize>,
    /// What makes no sense of what was added first.
    fault: Option<GraphError>,
    shared: Option<&'a dyn SharedResults>,
}

impl<'a, E: TaskError> Graph<'a, E> {
    /// A graph without tasks.
    pub fn new() -> Self {
        Graph {
            nodes: Vec::new(),
            by_stamp: HashMap::new(),
            fault: None,
            shared: None,
        }
    }

    /// Takes results that other machines made, and gives them those that are made here.
    pub fn share(&mut self, results: &'a dyn SharedResults) {
        self.shared = Some(results);
    }

    /// Adds a task.
    pub fn add<T: Task<Error = E> + 'a>(&mut self, task: T) -> TaskId<T::Output> {
        let index = self.nodes.len();
        let (stage, needs) = (task.stage(), task.needs());
        let mut declared = needs.clone();
        declared.sort_unstable();
        if declared.last().is_some_and(|last| last.0 >= index) {
            let stage = stage.clone();
            self.fault.get_or_insert(GraphError::UnknownNeed { stage });
        }
        match self.by_stamp.entry(task.stamp_key()) {
            Entry::Vacant(entry) => {
                entry.insert(index);
            }
            Entry::Occupied(entry) => {
                let first = self.nodes[*entry.get()].stage.clone();
                let second = stage.clone();
                self.fault
                    .get_or_insert(GraphError::SharedStamp { first, second });
            }
        }
        self.nodes.push(Node {
            stage,
            needs,
            declared,
            failure_stops_others: task.failure_stops_others(),
            output: TypeId::of::<T::Output>(),
            task: Box::new(task),
        });
        TaskId::new(index)
    }

    /// The task that was added with this stamp and this type of output.
    pub fn find<T: 'static>(&self, stamp_key: &StampKey) -> Option<TaskId<T>> {
        let index = *self.by_stamp.get(stamp_key)?;
        let is_it = self.nodes[index].output == TypeId::of::<T>();
        is_it.then(|| TaskId::new(index))
    }

    /// Brings every task up to date, with `jobs` of them at work at once (0 counts as 1). After
    /// the first failure no further task is started, unless the one that failed lets others go on
    /// ([`Task::failure_stops_others`]); those at work finish, and keep their results.
    ///
    /// Tells `sink` of each task: first that it is pending; then, while it runs or is skipped,
    /// its other states.
    ///
    /// # Errors
    /// The first failure of a task, or [`EngineError::Stopped`] when `cancel` asks to stop before
    /// every task was started.
    ///
    /// # Panics
    /// When a task does.
    pub fn run(
        &self,
        jobs: usize,
        stamps: &StampStore,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<Finished, EngineError<E>> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone().into());
        }
        let stores = ResultStores {
            stamps,
            // Without stamps every task runs.
            shared: self.shared.filter(|_| stamps.enabled),
        };
        scheduler::run(&self.nodes, jobs, stores, cancel, sink)
    }

    /// The first task, in the order in which they were added, that a run would run. No task is run,
    /// and nothing is changed.
    ///
    /// # Errors
    /// The first task whose inputs cannot be found out.
    pub fn first_outdated(
        &self,
        stamps: &StampStore,
    ) -> Result<Option<OutdatedTask>, EngineError<E>> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone().into());
        }
        let outcomes: Vec<OnceLock<Outcome>> = self.nodes.iter().map(|_| OnceLock::new()).collect();
        for (index, node) in self.nodes.iter().enumerate() {
            let needs = Needs {
                reader: &node.stage,
                declared: &node.declared,
                outcomes: &outcomes,
            };
            let stage = node.stage.clone();
            match node.task.check(&needs, stamps) {
                Ok(Ok(outcome)) => {
                    // Set once: each task is asked once.
                    let _ = outcomes[index].set(outcome);
                }
                Ok(Err(reason)) => return Ok(Some(OutdatedTask { stage, reason })),
                Err(TaskFailure::Task(source)) => return Err(EngineError::Task { stage, source }),
                Err(TaskFailure::Stamp(source)) => {
                    return Err(EngineError::Stamp { stage, source });
                }
            }
        }
        Ok(None)
    }
}

/// A task whose earlier result is not good any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutdatedTask {
    /// Its stage.
    pub stage: String,
    /// Which of its inputs differs, with both values, or what else it is. For people.
    pub reason: String,
}

impl<E: TaskError> Default for Graph<'_, E> {
    fn default() -> Self {
        Graph::new()
    }
}

/// One line for each task, in the order in which they were added: its stage, and the stages of
/// those that it needs.
impl<E: TaskError> fmt::Display for Graph<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            f.write_str(&node.stage)?;
            for (nth, need) in node.needs.iter().enumerate() {
                let separator = if nth == 0 { " <- " } else { ", " };
                let stage = self.nodes.get(need.0).map_or("?", |n| &n.stage);
                write!(f, "{separator}{stage}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl<E: TaskError> fmt::Debug for Graph<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.nodes.iter().map(|node| &node.stage))
            .finish()
    }
}
