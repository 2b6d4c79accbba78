//! A machine on its way to its owner, or why there is none.

use avocado_qemu::{Machine, MachineEvents};

use super::super::error::SupervisorError;
use super::super::machine_record::MachineRecord;

/// A machine that is there.
#[derive(Debug)]
pub(crate) struct StartedMachine {
    pub(crate) machine: Machine,
    pub(crate) events: MachineEvents,
    pub(crate) record: MachineRecord,
    pub(crate) port: u16,
    pub(crate) kind: StartKind,
}

/// How it came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartKind {
    /// It was started, and the guest boots.
    Booted,
    /// Its memory was restored, and the guest runs.
    Restored,
    /// It was there already. `ready`: its guest had answered before.
    Adopted { paused: bool, ready: bool },
}

/// Why there is no machine. `kept`: the saved memory is still good.
#[derive(Debug)]
pub(crate) struct RestoreFailure {
    pub(crate) error: SupervisorError,
    pub(crate) kept: bool,
}
