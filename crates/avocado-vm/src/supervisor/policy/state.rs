//! The states of a VM, and why it is in one.

use super::request::CountedLane;

/// What the VM is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyState {
    /// QEMU runs; the guest does not answer yet.
    Starting,
    Running,
    /// QEMU is being asked to pause.
    Pausing,
    Hibernated,
    /// QEMU is being asked to go on.
    Waking,
    /// The memory goes to the file; there is a QEMU until that is complete.
    Saving,
    Released,
    /// The memory comes back from the file.
    Restoring,
    Stopping,
    /// No QEMU, and nothing saved that is ours to bring back.
    Gone,
}

/// Why the VM is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateReason {
    Start,
    /// The guest started anew by itself.
    Reboot,
    /// A new supervisor found the VM as it is.
    Adopted,
    Idle,
    Requested,
    /// Another client told QEMU.
    External,
    Connection(CountedLane),
    /// Bytes that arrived in the instant of pausing.
    Traffic,
    /// The guest itself powered off.
    Guest,
    /// A command to QEMU failed.
    Failure,
    /// QEMU ended.
    Exit,
}

impl StateReason {
    /// For `status`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            StateReason::Start => "start",
            StateReason::Reboot => "reboot",
            StateReason::Adopted => "adopted",
            StateReason::Idle => "idle",
            StateReason::Requested => "requested",
            StateReason::External => "external",
            StateReason::Connection(_) | StateReason::Traffic => "connection",
            StateReason::Guest => "guest",
            StateReason::Failure => "failure",
            StateReason::Exit => "exit",
        }
    }

    /// What woke the guest, for `status` and the log.
    pub(crate) fn waker(self) -> &'static str {
        match self {
            StateReason::Connection(lane) => lane.name(),
            StateReason::Traffic => "traffic",
            StateReason::Requested => "request",
            other => other.name(),
        }
    }
}

/// The same as [`PolicyState`], with what has a meaning in that state alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateData {
    Starting,
    Running,
    /// `missed_traffic`: bytes moved while QEMU was being asked to pause.
    Pausing {
        missed_traffic: bool,
    },
    /// `missed_traffic`: such bytes are still to be heard by the guest.
    Hibernated {
        missed_traffic: bool,
    },
    Waking,
    Saving(SaveProgress),
    Released,
    Restoring,
    /// `forced`: it is being ended without asking the guest, which always succeeds.
    /// `missed_traffic`: as above, for a stop that fails.
    Stopping {
        forced: bool,
        missed_traffic: bool,
    },
    Gone,
}

/// How far a save is. QEMU ends once the memory is in the file; that it ended, and that the memory
/// counts, are told in either order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SaveProgress {
    /// The memory goes to the file; until that is complete the save can be cancelled.
    Writing,
    /// QEMU was asked to end.
    Quitting,
    /// The memory counts; the end of QEMU is still to be told.
    Counts,
    /// QEMU ended; whether the memory counts is still to be told.
    QemuEnded,
}

impl StateData {
    pub(super) fn kind(self) -> PolicyState {
        match self {
            StateData::Starting => PolicyState::Starting,
            StateData::Running => PolicyState::Running,
            StateData::Pausing { .. } => PolicyState::Pausing,
            StateData::Hibernated { .. } => PolicyState::Hibernated,
            StateData::Waking => PolicyState::Waking,
            StateData::Saving(_) => PolicyState::Saving,
            StateData::Released => PolicyState::Released,
            StateData::Restoring => PolicyState::Restoring,
            StateData::Stopping { .. } => PolicyState::Stopping,
            StateData::Gone => PolicyState::Gone,
        }
    }
}
