use std::any::Any;
use std::sync::{Arc, OnceLock};

use avocado_manifest::Digest;

use crate::{AnyTaskId, Needs};

/// What a task left behind, whether this run made it or an earlier one.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) digest: Digest,
    /// The task's [`Output`](crate::Task::Output).
    pub(crate) output: Arc<dyn Any + Send + Sync>,
}

/// What became of a graph whose tasks are all up to date.
#[derive(Debug)]
pub struct Finished {
    /// The stages of the tasks that ran, in the order in which they were added.
    pub ran: Vec<String>,
    /// The stages of the tasks that were up to date, in the same order.
    pub skipped: Vec<String>,
    /// The stages of those among the skipped whose results another machine made.
    pub from_cache: Vec<String>,
    pub(crate) all: Vec<AnyTaskId>,
    pub(crate) outcomes: Vec<OnceLock<Outcome>>,
}

impl Finished {
    /// The results of all tasks, as one that needs them all sees them.
    pub fn results(&self) -> Needs<'_> {
        Needs {
            reader: "the end of the run",
            declared: &self.all,
            outcomes: &self.outcomes,
        }
    }
}
