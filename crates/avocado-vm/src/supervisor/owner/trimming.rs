//! When the guest's disks are trimmed, so that the host gets back the blocks of what was deleted in
//! the guest: before it falls asleep, and when it is stopped. Only while it runs anyway: the agent serves
//! one client at a time, and one that trims for long would keep the guest from being told the time.

use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::super::jobs;
use super::super::policy::PolicyState;
use super::vm_owner::VmOwner;

/// How often the disks of a guest that falls asleep are trimmed at most: it is work for the guest,
/// each time of the same extent.
const PERIOD: Duration = Duration::from_secs(3600);
/// How long that may take. No client waits for it, and a guest that falls asleep in the middle of it
/// goes on with it when it wakes.
const LIMIT: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Trimming {
    /// When the last one began.
    last: Option<Instant>,
    /// The one that is under way while the guest runs.
    job: Option<AbortHandle>,
}

impl Trimming {
    /// Whether there may be something to trim that the guest deleted until `at`.
    fn is_due(&self, at: Instant) -> bool {
        let since = |last| at.saturating_duration_since(last);
        self.last.is_none_or(|last| since(last) >= PERIOD)
    }

    fn is_under_way(&self) -> bool {
        self.job.as_ref().is_some_and(|job| !job.is_finished())
    }
}

impl VmOwner {
    /// Whether the guest falls asleep only when its trim has ended. A command that lets it sleep
    /// waits for none.
    pub(super) fn awaits_trim(&self) -> bool {
        self.trimming.is_under_way()
            && self.policy.state() == PolicyState::Running
            && !self.policy.is_sleep_requested()
    }

    /// Begins to trim a guest that is idle and about to fall asleep, if that is due. The guest still
    /// serves all clients meanwhile.
    pub(super) fn trim_before_sleep(&mut self) -> bool {
        let idle = self.policy.state() == PolicyState::Running
            && self.policy.open_leases() == 0
            && !self.policy.is_sleep_requested()
            && !self.policy.is_checking_work()
            // Its agent is needed for something else.
            && self.is_clock_set()
            && !self.handle.shared.is_workspace_missing()
            && !self.handle.shared.is_agent_missing();
        let now = Instant::now();
        if !idle || !self.trimming.is_due(now) || !self.has_disks_to_trim() {
            return false;
        }
        let Some(machine) = self.machine.clone() else {
            return false;
        };
        self.trimming.last = Some(now);
        let job = jobs::trim(machine, LIMIT, self.log.clone());
        self.trimming.job = Some(self.jobs.spawn(job));
        true
    }

    /// Whether QEMU gives to the host what the guest discards: not one of an earlier version.
    pub(super) fn has_disks_to_trim(&self) -> bool {
        let record = self.lock_record();
        record.as_ref().is_some_and(|record| record.spec.gives_back)
    }

    pub(super) fn note_state_for_trims(&mut self, state: PolicyState) {
        if state != PolicyState::Running
            && let Some(job) = self.trimming.job.take()
        {
            // Its answer would be waited for, and the guest's agent serves one client at a time.
            job.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trim_is_due_once_in_a_while() {
        let now = Instant::now();
        let mut trimming = Trimming::default();
        assert!(trimming.is_due(now));
        trimming.last = Some(now);
        assert!(!trimming.is_due(now));
        assert!(!trimming.is_due(now + PERIOD / 2));
        assert!(trimming.is_due(now + PERIOD));
        assert!(!trimming.is_under_way());
    }
}
