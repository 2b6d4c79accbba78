//! Whether the host's clock jumped: the host slept, or its clock was set.

use std::time::{Duration, Instant, SystemTime};

/// The host's clock, as it was when it was last compared with the one that never steps.
#[derive(Debug)]
pub(super) struct ClockWatch {
    steady: Instant,
    host: SystemTime,
}

impl ClockWatch {
    pub(super) fn new() -> Self {
        ClockWatch {
            steady: Instant::now(),
            host: SystemTime::now(),
        }
    }

    /// How far the host's clock has jumped, in either direction, since this was last asked.
    pub(super) fn jump(&mut self) -> Duration {
        let now = ClockWatch::new();
        let expected = self.host + now.steady.duration_since(self.steady);
        let jump = match now.host.duration_since(expected) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        *self = now;
        jump
    }
}
