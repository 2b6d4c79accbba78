//! Whether the host's clock jumped: the host slept, or its clock was set.

use std::time::{Duration, Instant, SystemTime};

use super::super::log::SupervisorLog;
use super::host_clock::ClockChanges;

/// How far the host's clock may jump before the guest's is set again. Less than this it is apart
/// from the one that never steps where a process was interrupted between the two looks.
const TOLERATED: Duration = Duration::from_millis(200);

/// The host's clock and the one that never steps, at the same moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockReading {
    steady: Instant,
    host: SystemTime,
}

impl ClockReading {
    pub(super) fn now() -> Self {
        ClockReading {
            steady: Instant::now(),
            host: SystemTime::now(),
        }
    }

    /// How far the host's clock has jumped until `later`, in either direction.
    fn jump(&self, later: ClockReading) -> Duration {
        let expected = self.host + later.steady.duration_since(self.steady);
        match later.host.duration_since(expected) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        }
    }
}

/// The host's clock, as it was when it was last looked at.
pub(super) struct ClockWatch {
    last: ClockReading,
    changes: ClockChanges,
}

impl ClockWatch {
    pub(super) fn new(log: &SupervisorLog) -> Self {
        let changes = ClockChanges::new();
        if let Some(why) = changes.problem() {
            log.line(&format!(
                "the host does not tell when its clock is set: {why}"
            ));
        }
        ClockWatch {
            last: ClockReading::now(),
            changes,
        }
    }

    /// Returns when the host's clock may have jumped.
    pub(super) async fn changed(&mut self) {
        self.changes.next().await;
    }

    /// How far the host's clock has jumped since the last reading, where the guest's has to follow.
    pub(super) fn jump(&mut self, now: ClockReading) -> Option<Duration> {
        let jump = self.last.jump(now);
        self.last = now;
        (jump > TOLERATED).then_some(jump)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clock_that_jumps_is_told_and_one_that_runs_is_not() {
        let place = tempfile::tempdir().unwrap();
        let log = SupervisorLog::open(&place.path().join("log"));
        let mut watch = ClockWatch::new(&log);
        let start = watch.last;
        let at = |steady_ms: u64, host_ms: u64| ClockReading {
            steady: start.steady + Duration::from_millis(steady_ms),
            host: start.host + Duration::from_millis(host_ms),
        };
        let secs = Duration::from_secs;
        // Runs; was set ahead; runs; the host slept for an hour; was set back; was read late.
        for (steady, host, expected) in [
            (5_000, 5_000, None),
            (6_000, 9_000, Some(secs(3))),
            (7_000, 10_000, None),
            (8_000, 3_611_000, Some(secs(3_600))),
            (9_000, 12_000, Some(secs(3_600))),
            (10_000, 13_100, None),
        ] {
            let found = watch.jump(at(steady, host));
            assert_eq!(found, expected, "{steady} {host}");
        }
    }
}
