use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use avocado_events::Sink;
use avocado_manifest::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::finished::Outcome;
use crate::{StampKey, TaskError, UndeclaredNeed};

/// One node of a [`Graph`](crate::Graph).
pub trait Task: Send + Sync {
    /// Everything that the task consumes and nothing else. A stamp is good for one JSON form of
    /// it.
    type Inputs: Serialize;
    /// What the task hands to those that need it. It is kept in the stamp as JSON.
    type Output: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Why it may fail.
    type Error: TaskError;

    /// The stage under which it reports. Stages of one graph are told apart by users.
    fn stage(&self) -> String;

    /// Where its stamp is kept.
    fn stamp_key(&self) -> StampKey;

    /// The tasks whose results it reads. It runs after all of them.
    fn needs(&self) -> Vec<AnyTaskId>;

    /// Whether a failure keeps tasks that do not need it from being started. Where it does not,
    /// these are brought up to date before the run fails.
    fn failure_stops_others(&self) -> bool {
        true
    }

    /// Everything that it consumes, as far as it is known before it runs.
    fn inputs(&self, needs: &Needs<'_>) -> Result<Self::Inputs, Self::Error>;

    /// What to record as its inputs once it ran: those from before the run, so that what a user
    /// edits meanwhile counts as a change. Only what the task itself settles while it runs is to
    /// be taken from after it.
    fn recorded_inputs(&self, before: Self::Inputs) -> Result<Self::Inputs, Self::Error> {
        Ok(before)
    }

    /// Whether the output is what these inputs make: what the task read may have changed since they
    /// were asked for. Where it is not, its stamp is good for no inputs, and the next run makes it again.
    fn is_made_of(&self, inputs: &Self::Inputs, output: &Self::Output) -> bool {
        let _ = (inputs, output);
        true
    }

    /// Does the work. `inputs` are those that were just compared with the stamp.
    fn run(
        &self,
        inputs: &Self::Inputs,
        needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<Self::Output, Self::Error>;

    /// The files and directories that a run left behind: where one is missing or changed, the
    /// task runs again. Those that an earlier run left and this one did not are removed.
    fn output_files(&self, output: &Self::Output) -> Vec<PathBuf>;

    /// What the result consists of and another task made, or may have made as well: where one is
    /// missing or changed, the task runs again. No task removes it.
    fn shared_files(&self, _output: &Self::Output) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The digest of what the next tasks consume. Equal means that they need not run again.
    fn digest(&self, output: &Self::Output) -> Digest;

    /// The digests of files among these that the output states: what is shared under this output is
    /// these bytes.
    fn file_digests(&self, output: &Self::Output) -> Vec<(PathBuf, Digest)> {
        let _ = output;
        Vec::new()
    }

    /// What the result follows from beside the inputs, and is taken for granted on one machine: what the
    /// tools are, say. `None`: the result is of no use to another machine, or easier made than fetched.
    ///
    /// Asked only where results are [shared](crate::Graph::share). A failure leaves the result unshared,
    /// with a warning.
    fn shared_environment(&self) -> Result<Option<Value>, Self::Error> {
        Ok(None)
    }

    /// A result that another machine made is at its place: does what else a run would have done. After
    /// a failure the task runs.
    fn restored(&self, output: &Self::Output, sink: &dyn Sink) -> Result<(), Self::Error> {
        let _ = (output, sink);
        Ok(())
    }
}

/// A task may be shared with the code that added it.
impl<T: Task + ?Sized> Task for Arc<T> {
    type Inputs = T::Inputs;
    type Output = T::Output;
    type Error = T::Error;

    fn stage(&self) -> String {
        (**self).stage()
    }

    fn stamp_key(&self) -> StampKey {
        (**self).stamp_key()
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        (**self).needs()
    }

    fn failure_stops_others(&self) -> bool {
        (**self).failure_stops_others()
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<T::Inputs, T::Error> {
        (**self).inputs(needs)
    }

    fn recorded_inputs(&self, before: T::Inputs) -> Result<T::Inputs, T::Error> {
        (**self).recorded_inputs(before)
    }

    fn is_made_of(&self, inputs: &T::Inputs, output: &T::Output) -> bool {
        (**self).is_made_of(inputs, output)
    }

    fn run(
        &self,
        inputs: &T::Inputs,
        needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<T::Output, T::Error> {
        (**self).run(inputs, needs, sink)
    }

    fn output_files(&self, output: &T::Output) -> Vec<PathBuf> {
        (**self).output_files(output)
    }

    fn shared_files(&self, output: &T::Output) -> Vec<PathBuf> {
        (**self).shared_files(output)
    }

    fn digest(&self, output: &T::Output) -> Digest {
        (**self).digest(output)
    }

    fn file_digests(&self, output: &T::Output) -> Vec<(PathBuf, Digest)> {
        (**self).file_digests(output)
    }

    fn shared_environment(&self) -> Result<Option<Value>, T::Error> {
        (**self).shared_environment()
    }

    fn restored(&self, output: &T::Output, sink: &dyn Sink) -> Result<(), T::Error> {
        (**self).restored(output, sink)
    }
}

/// The place of a task in its graph, with the type of the task's output.
pub struct TaskId<T> {
    pub(crate) index: usize,
    output: PhantomData<fn() -> T>,
}

impl<T> TaskId<T> {
    pub(crate) fn new(index: usize) -> Self {
        TaskId {
            index,
            output: PhantomData,
        }
    }
}

// Not derived: that would ask the same of `T`.
impl<T> Clone for TaskId<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for TaskId<T> {}

impl<T> fmt::Debug for TaskId<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({})", self.index)
    }
}

/// The place of a task in its graph, whatever its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnyTaskId(pub(crate) usize);

impl<T> From<TaskId<T>> for AnyTaskId {
    fn from(id: TaskId<T>) -> Self {
        AnyTaskId(id.index)
    }
}

/// The results of the tasks that one task needs.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'r> {
    /// The stage of the task that reads.
    pub(crate) reader: &'r str,
    /// In order.
    pub(crate) declared: &'r [AnyTaskId],
    /// What became of each task of the graph.
    pub(crate) outcomes: &'r [OnceLock<Outcome>],
}

impl<'r> Needs<'r> {
    /// What a needed task made.
    ///
    /// # Errors
    /// [`UndeclaredNeed`] where the task does not say that it needs the other one.
    pub fn output<T: 'static>(&self, id: TaskId<T>) -> Result<&'r T, UndeclaredNeed> {
        let output = self.outcome(id.into())?.output.downcast_ref();
        output.ok_or_else(|| self.undeclared(id.into()))
    }

    /// The digest of what a needed task made.
    ///
    /// # Errors
    /// [`UndeclaredNeed`] where the task does not say that it needs the other one.
    pub fn digest<T>(&self, id: TaskId<T>) -> Result<Digest, UndeclaredNeed> {
        Ok(self.outcome(id.into())?.digest)
    }

    /// The digest of what a task made that may not be there.
    ///
    /// # Errors
    /// As [`digest`](Self::digest).
    pub fn optional_digest<T>(
        &self,
        id: Option<TaskId<T>>,
    ) -> Result<Option<Digest>, UndeclaredNeed> {
        id.map(|id| self.digest(id)).transpose()
    }

    fn outcome(&self, id: AnyTaskId) -> Result<&'r Outcome, UndeclaredNeed> {
        let outcome = self.outcomes.get(id.0).and_then(OnceLock::get);
        outcome
            .filter(|_| self.declared.binary_search(&id).is_ok())
            .ok_or_else(|| self.undeclared(id))
    }

    fn undeclared(&self, id: AnyTaskId) -> UndeclaredNeed {
        UndeclaredNeed {
            reader: self.reader.to_owned(),
            read: format!("task {} of the graph", id.0 + 1),
        }
    }
}
