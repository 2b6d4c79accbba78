//! How much processor time QEMU uses, and whether that is more than an idle guest takes.

use std::time::Instant;

use avocado_qemu::{Accelerator, Machine};

/// What a guest at work uses of one processor, above what an idle one uses.
const WORK_SHARE: f64 = 0.1;
/// What an idle guest uses at most. A guest that was never seen idle must not pass for one.
const IDLE_LIMIT: f64 = 0.4;

/// Processor time of QEMU.
#[derive(Debug, Default)]
pub(super) struct CpuMeter {
    /// At the last measurement, in milliseconds, and when that was.
    last: Option<(Instant, u64)>,
    /// The least share of one processor that the guest used while no client was connected.
    idle: Option<f64>,
}

impl CpuMeter {
    /// Begins anew: the next share counts from here.
    pub(super) fn measure(&mut self, machine: Option<&Machine>) {
        let usage = machine.and_then(Machine::usage);
        self.last = usage.map(|usage| (Instant::now(), usage.cpu_ms));
    }

    /// Whether more was used since the last measurement than an idle guest uses. Not, where either
    /// of the two is missing.
    pub(super) fn is_busy(&mut self, machine: &Machine, accelerator: Option<Accelerator>) -> bool {
        let idle = self.idle;
        let share = self.share(machine);
        share.is_some_and(|share| share > limit(idle, accelerator))
    }

    /// Takes what was used since the last measurement for what an idle guest uses.
    pub(super) fn note_idle(&mut self, machine: &Machine) {
        if let Some(share) = self.share(machine) {
            self.idle = Some(self.idle.map_or(share, |idle| idle.min(share)));
        }
    }

    /// The share of one processor that was used since the last measurement.
    fn share(&mut self, machine: &Machine) -> Option<f64> {
        let before = self.last;
        self.measure(Some(machine));
        let ((then, had), (now, has)) = before.zip(self.last)?;
        let time = now.duration_since(then).as_secs_f64() * 1000.0;
        Some(has.saturating_sub(had) as f64 / time.max(1.0))
    }
}

/// The share above which a guest is at work.
fn limit(idle: Option<f64>, accelerator: Option<Accelerator>) -> f64 {
    let usual = match accelerator {
        // Its timers are emulated, too.
        Some(Accelerator::Tcg) => 0.1,
        Some(Accelerator::Kvm | Accelerator::Hvf) | None => 0.0,
    };
    idle.unwrap_or(usual).min(IDLE_LIMIT) + WORK_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_measured_against_what_an_idle_guest_takes() {
        let (kvm, tcg) = (Some(Accelerator::Kvm), Some(Accelerator::Tcg));
        for (idle, accelerator, busy, not_busy) in [
            (None, kvm, 0.11, 0.09),
            (None, None, 0.11, 0.09),
            (None, tcg, 0.21, 0.19),
            (Some(0.03), tcg, 0.14, 0.12),
            (Some(0.25), kvm, 0.36, 0.34),
            // All the time at work, as it was measured.
            (Some(1.0), kvm, 0.51, 0.49),
        ] {
            let limit = limit(idle, accelerator);
            assert!(busy > limit && not_busy < limit, "{idle:?}: {limit}");
        }
    }
}
