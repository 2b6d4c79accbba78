use std::any::TypeId;

use avocado_events::Sink;

use crate::StampStore;
use crate::finished::Outcome;
use crate::task::{AnyTaskId, Needs, Task};
use crate::up_to_date::{ResultStores, TaskFailure, UpToDate, bring_up_to_date, check};

/// A task in its graph.
pub(crate) struct Node<'a, E> {
    pub(crate) stage: String,
    /// As the task told them.
    pub(crate) needs: Vec<AnyTaskId>,
    /// The same in order, to be looked up.
    pub(crate) declared: Vec<AnyTaskId>,
    pub(crate) task: Box<dyn AnyTask<E> + 'a>,
    pub(crate) failure_stops_others: bool,
    /// The type of the task's output.
    pub(crate) output: TypeId,
}

/// A [`Task`] whose types are forgotten.
pub(crate) trait AnyTask<E>: Send + Sync {
    fn bring_up_to_date(
        &self,
        stage: &str,
        needs: Needs<'_>,
        stores: &ResultStores<'_>,
        sink: &dyn Sink,
    ) -> Result<UpToDate, TaskFailure<E>>;

    fn check(
        &self,
        needs: &Needs<'_>,
        stamps: &StampStore,
    ) -> Result<Result<Outcome, String>, TaskFailure<E>>;
}

impl<T: Task> AnyTask<T::Error> for T {
    fn bring_up_to_date(
        &self,
        stage: &str,
        needs: Needs<'_>,
        stores: &ResultStores<'_>,
        sink: &dyn Sink,
    ) -> Result<UpToDate, TaskFailure<T::Error>> {
        bring_up_to_date(self, stage, needs, stores, sink)
    }

    fn check(
        &self,
        needs: &Needs<'_>,
        stamps: &StampStore,
    ) -> Result<Result<Outcome, String>, TaskFailure<T::Error>> {
        check(self, needs, stamps)
    }
}
