//! What happens to the VM.

use std::time::Instant;

use super::request::{CountedLane, VmRequest};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyEvent {
    /// The guest answers.
    Ready,
    /// A running QEMU was taken over.
    Adopted { paused: bool },
    /// A client connected and waits for a lease.
    LeaseRequested(CountedLane),
    /// The client of a lease sent something while the guest sleeps, and waits.
    ClientSpoke(CountedLane),
    /// The same, but it is no more than a sign of life.
    SignSpoken(CountedLane),
    /// A lease ended.
    LeaseDropped,
    /// A command keeps the guest awake from now on. It does not wake it:
    /// [`VmRequest::Wake`] does.
    KeepAwakeBegun,
    /// Such a command ended.
    KeepAwakeEnded,
    /// Bytes moved on a counted connection at this instant.
    Traffic(Instant),
    /// The same, but they were no more than a sign of life or its answer.
    SignOfLife(Instant),
    /// The answer to [`PolicyAction::CheckWork`].
    WorkChecked { busy: bool },
    /// The deadline has passed.
    DeadlinePassed,
    /// QEMU says that the guest was paused, by this supervisor or by another client.
    Paused,
    /// QEMU says that the guest goes on.
    Resumed,
    /// The guest powered itself off, or another client ends QEMU; QEMU will end.
    Shutdown { by_guest: bool },
    /// The guest started anew.
    Reset,
    /// QEMU ended.
    Exited,
    /// The outcome of [`PolicyAction::Pause`], as QEMU says.
    PauseDone { paused: bool },
    /// The outcome of [`PolicyAction::Resume`], as QEMU says.
    ResumeDone { running: bool },
    /// The outcome of [`PolicyAction::Save`].
    SaveDone { saved: bool, paused: bool },
    /// The outcome of [`PolicyAction::Quit`]. Unless `saved`, QEMU was left as it was, paused.
    QuitDone { saved: bool },
    /// [`PolicyAction::Restore`] succeeded: the guest runs.
    Restored,
    /// [`PolicyAction::Restore`] found the memory of no use, and the guest boots anew.
    Rebooted,
    /// [`PolicyAction::Restore`] failed. `kept`: the saved memory is still good.
    RestoreFailed { kept: bool },
    /// [`PolicyAction::ShutDown`] failed: the guest goes on as it was.
    StopFailed,
    /// A command asks for something, and waits.
    Requested(VmRequest),
}
