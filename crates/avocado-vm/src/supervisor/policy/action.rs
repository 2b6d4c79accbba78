//! What the policy wants done.

use super::request::{Refusal, VmRequest};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyAction {
    Pause,
    Resume,
    /// Find out whether the guest works. Answered by [`PolicyEvent::WorkChecked`].
    CheckWork,
    /// Save the memory of the paused guest, and leave QEMU as it is.
    Save,
    /// The save is not wanted any more: the sooner it ends the better.
    CancelSave,
    /// Make the saved memory count, and end QEMU. [`PolicyEvent::Exited`] comes as well.
    Quit,
    Restore,
    /// The saved memory is not wanted any more.
    Discard,
    /// Every client that waits may go on: the guest runs.
    Grant,
    /// Every client that waits for the guest to run is sent away.
    Refuse(Refusal),
    /// The guest runs again: set its clock, tell others.
    AfterWake,
    /// The guest boots again: wait for it, and give it its workspace and the rest once more. Answered
    /// by [`PolicyEvent::Ready`].
    SetUp,
    ShutDown {
        force: bool,
    },
    /// Answers every open request of this kind (a stop with or without force).
    Done(VmRequest),
    Denied(VmRequest, Refusal),
}
