//! What clients ask of the policy, and why they may be refused.

/// A lane whose connections are counted, and wake the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CountedLane {
    Ssh,
    Docker,
    /// Ports of the guest that are forwarded.
    Forward,
}

impl CountedLane {
    pub(crate) fn name(self) -> &'static str {
        match self {
            CountedLane::Ssh => "ssh",
            CountedLane::Docker => "docker",
            CountedLane::Forward => "forward",
        }
    }
}

/// What a command asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VmRequest {
    Wake,
    Hibernate,
    Release,
    Stop { force: bool },
}

impl VmRequest {
    /// What is asked for, as a verb.
    pub(crate) fn name(self) -> &'static str {
        match self {
            VmRequest::Wake => "wake",
            VmRequest::Hibernate => "hibernate",
            VmRequest::Release => "release",
            VmRequest::Stop { force: false } => "stop",
            VmRequest::Stop { force: true } => "stop by force",
        }
    }
}

/// Why something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The VM is on its way down.
    Stopping,
    /// QEMU ended.
    Gone,
    /// The guest does not answer yet.
    Starting,
    /// QEMU could not be made to go on.
    NotWoken,
    /// QEMU could not be paused.
    NotPaused,
    /// The memory could not be saved, or the guest was wanted again meanwhile.
    NotSaved,
    /// The memory could not be brought back.
    NotRestored,
    /// Connections are open or talking.
    InUse,
    /// A command keeps the guest awake.
    KeptAwake,
    /// The guest did not power off in time.
    NotStopped,
}
