//! How full the lanes are: each takes so many connections at a time, and sends the others away.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Connections of one lane at the same time.
pub(crate) const CONNECTION_LIMIT: usize = 200;

/// A lane, for what is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Ssh,
    Docker,
    Infra,
    DockerStream,
    Forward,
}

impl Lane {
    /// The name that the documentation gives it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Lane::Ssh => "ssh",
            Lane::Docker => "docker",
            Lane::Infra => "infra",
            Lane::DockerStream => "docker-stream",
            Lane::Forward => "forward",
        }
    }

    /// Why a client is sent away that finds it full.
    pub(crate) fn refusal(self) -> String {
        let name = self.name();
        format!(
            "the {name} lane of the VM has {CONNECTION_LIMIT} connections open and takes no more; \
             close some, and try again"
        )
    }
}

/// The lanes that are full, with how many clients each has sent away since.
#[derive(Debug, Default)]
pub(crate) struct LaneLoads(Mutex<BTreeMap<Lane, u64>>);

impl LaneLoads {
    /// A client is sent away. Says whether it is the first one since the lane had room.
    pub(crate) fn count_refusal(&self, lane: Lane) -> bool {
        let mut full = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = full.entry(lane).or_default();
        *refused += 1;
        *refused == 1
    }

    /// The lane has room. Answers with how many clients were sent away before.
    pub(crate) fn has_room(&self, lane: Lane) -> u64 {
        let mut full = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        full.remove(&lane).unwrap_or_default()
    }

    /// Which lanes are full, for the status; none where no client was sent away.
    pub(crate) fn problem(&self) -> Option<String> {
        let full = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told: Vec<String> = full
            .iter()
            .map(|(lane, n)| format!("{} ({n} sent away)", lane.refusal()))
            .collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_is_a_problem_until_it_has_room() {
        let loads = LaneLoads::default();
        assert_eq!(loads.problem(), None);
        assert!(loads.count_refusal(Lane::Docker));
        assert!(!loads.count_refusal(Lane::Docker));
        let problem = loads.problem().unwrap();
        let start = "the docker lane of the VM has 200 connections open and takes no more";
        assert!(problem.starts_with(start), "{problem}");
        assert!(problem.ends_with("(2 sent away)"), "{problem}");
        assert_eq!(loads.has_room(Lane::Ssh), 0);
        assert!(loads.problem().is_some());
        assert_eq!(loads.has_room(Lane::Docker), 2);
        assert_eq!(loads.problem(), None);
    }
}
