//! When to sleep, as the user wants it.

use std::time::{Duration, Instant};

/// In seconds.
const CENTURY: u64 = 100 * 365 * 86_400;

/// When to sleep, with `None` for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SleepSettings {
    /// Time without activity until the guest is paused.
    pub(crate) hibernate_after: Option<Duration>,
    /// Time paused until its memory is released.
    pub(crate) release_after: Option<Duration>,
    /// How long an open, silent connection keeps an idle guest awake.
    pub(crate) silent: Option<Duration>,
    /// Whether running containers count as activity.
    pub(crate) containers: bool,
}

impl SleepSettings {
    /// The settings of a launch, where 0 seconds mean never.
    pub(crate) fn new(idle: &crate::launch::IdleSettings) -> Self {
        // More than a century is never, too, and would only overflow.
        let time = |secs: u64| {
            (1..=CENTURY)
                .contains(&secs)
                .then(|| Duration::from_secs(secs))
        };
        SleepSettings {
            hibernate_after: time(idle.hibernate_after_secs),
            release_after: time(idle.release_memory_after_secs),
            silent: time(idle.silent_connection_secs),
            containers: idle.containers_keep_awake,
        }
    }

    /// When a guest falls asleep that was last used at `activity`, if nothing happens until then.
    /// An open lease keeps it awake for longer.
    pub(super) fn sleep_due(&self, activity: Instant, leases: u64) -> Option<Instant> {
        let idle = self.hibernate_after?;
        let limit = match leases {
            0 => idle,
            _ => self.silent?.max(idle),
        };
        Some(activity + limit)
    }

    /// Whether the guest's own work counts as activity: a build that a user waits
    /// for in a silent shell goes on.
    pub(super) fn counts_work(&self, leases: u64) -> bool {
        leases > 0 || self.containers
    }
}
