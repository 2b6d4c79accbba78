//! Which tasks can be started.

use std::collections::BTreeSet;

use crate::AnyTaskId;

/// The tasks of a graph on their way. What it costs to start one and to end one does not hang on
/// how many there are, but for the order of those that are ready.
#[derive(Debug)]
pub(crate) struct ReadyQueue {
    /// By index of the task: how many of its needs are unfinished.
    unmet: Vec<usize>,
    /// By index of the task: those that need it.
    dependents: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
    /// How many were taken and are not finished.
    at_work: usize,
}

impl ReadyQueue {
    /// None is started. `needs` are those of each task, each of which is in the graph.
    pub(crate) fn new<'n>(needs: impl Iterator<Item = &'n [AnyTaskId]> + Clone) -> Self {
        let unmet: Vec<usize> = needs.clone().map(<[_]>::len).collect();
        let mut dependents = vec![Vec::new(); unmet.len()];
        for (index, needs) in needs.enumerate() {
            for need in needs {
                dependents[need.0].push(index);
            }
        }
        let ready = unmet.iter().enumerate().filter(|(_, unmet)| **unmet == 0);
        ReadyQueue {
            ready: ready.map(|(index, _)| index).collect(),
            at_work: 0,
            unmet,
            dependents,
        }
    }

    /// Whether there is nothing to take, and will not be: every task was taken, or waits for one
    /// that failed.
    pub(crate) fn is_empty(&self) -> bool {
        self.at_work == 0 && self.ready.is_empty()
    }

    /// Of those that can be started, the one that was added first.
    pub(crate) fn take(&mut self) -> Option<usize> {
        let index = self.ready.pop_first()?;
        self.at_work += 1;
        Some(index)
    }

    /// A task that was taken failed: those that need it are never ready.
    pub(crate) fn failed(&mut self) {
        self.at_work -= 1;
    }

    /// A task that was taken is finished.
    pub(crate) fn finished(&mut self, index: usize) {
        self.at_work -= 1;
        for dependent in std::mem::take(&mut self.dependents[index]) {
            self.unmet[dependent] -= 1;
            if self.unmet[dependent] == 0 {
                self.ready.insert(dependent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(needs: &[&[usize]]) -> ReadyQueue {
        let needs: Vec<Vec<AnyTaskId>> = needs
            .iter()
            .map(|needs| needs.iter().copied().map(AnyTaskId).collect())
            .collect();
        ReadyQueue::new(needs.iter().map(Vec::as_slice))
    }

    #[test]
    fn a_task_is_ready_when_the_last_of_its_needs_is_finished() {
        // The third needs the first by two names.
        let mut queue = queue(&[&[], &[0], &[0, 1, 0], &[]]);
        assert_eq!(queue.take(), Some(0));
        assert_eq!(queue.take(), Some(3));
        assert_eq!(queue.take(), None);
        queue.finished(3);
        assert_eq!(queue.take(), None);
        queue.finished(0);
        assert_eq!(queue.take(), Some(1));
        assert_eq!(queue.take(), None);
        assert!(!queue.is_empty());
        queue.finished(1);
        assert_eq!(queue.take(), Some(2));
        queue.finished(2);
        assert!(queue.is_empty());
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn what_needs_a_failed_task_is_not_waited_for() {
        let mut queue = queue(&[&[], &[0], &[]]);
        assert_eq!((queue.take(), queue.take()), (Some(0), Some(2)));
        queue.failed();
        assert!(!queue.is_empty());
        queue.finished(2);
        assert!(queue.is_empty());
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn nothing_is_ready_in_an_empty_graph() {
        let mut queue = queue(&[]);
        assert!(queue.is_empty());
        assert_eq!(queue.take(), None);
    }
}
