//! How much processor time QEMU uses.

use std::time::Instant;

use avocado_qemu::Machine;

/// Processor time of QEMU at the last measurement, in milliseconds, and when that was.
#[derive(Debug, Default)]
pub(super) struct CpuMeter(Option<(Instant, u64)>);

impl CpuMeter {
    /// Begins anew: the next share counts from here.
    pub(super) fn measure(&mut self, machine: Option<&Machine>) {
        let usage = machine.and_then(Machine::usage);
        self.0 = usage.map(|usage| (Instant::now(), usage.cpu_ms));
    }

    /// The share of one processor that was used since the last measurement; none where either of
    /// the two is missing.
    pub(super) fn share(&mut self, machine: &Machine) -> Option<f64> {
        let before = self.0;
        self.measure(Some(machine));
        let ((then, had), (now, has)) = before.zip(self.0)?;
        let time = now.duration_since(then).as_secs_f64() * 1000.0;
        Some(has.saturating_sub(had) as f64 / time.max(1.0))
    }
}
