//! What the state machine is told and what it answers.

use std::time::{Duration, Instant};

/// In seconds.
const CENTURY: u64 = 100 * 365 * 86_400;

/// When to sleep, with `None` for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Time without activity until the guest is paused.
    pub(crate) hibernate_after: Option<Duration>,
    /// Time paused until its memory is released.
    pub(crate) release_after: Option<Duration>,
    /// How long an open, silent connection keeps an idle guest awake.
    pub(crate) silent: Option<Duration>,
    /// Whether running containers count as activity.
    pub(crate) containers: bool,
}

impl Settings {
    /// The settings of a launch, where 0 seconds mean never.
    pub(crate) fn new(idle: &crate::launch::Idle) -> Self {
        // More than a century is never, too, and would only overflow.
        let time = |secs: u64| {
            (1..=CENTURY)
                .contains(&secs)
                .then(|| Duration::from_secs(secs))
        };
        Settings {
            hibernate_after: time(idle.hibernate_after_secs),
            release_after: time(idle.release_memory_after_secs),
            silent: time(idle.silent_connection_secs),
            containers: idle.containers_keep_awake,
        }
    }
}

/// A lane whose connections are counted, and wake the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    Ssh,
    Docker,
}

impl Lane {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Lane::Ssh => "ssh",
            Lane::Docker => "docker",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
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
pub(crate) enum Reason {
    Start,
    /// A new supervisor found the VM as it is.
    Adopted,
    Idle,
    Requested,
    /// Somebody else told QEMU.
    External,
    Connection(Lane),
    /// Bytes that arrived in the instant of pausing.
    Traffic,
    /// The guest itself powered off.
    Guest,
    /// A command to QEMU failed.
    Failure,
    /// QEMU ended.
    Exit,
}

impl Reason {
    /// For `status`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reason::Start => "start",
            Reason::Adopted => "adopted",
            Reason::Idle => "idle",
            Reason::Requested => "requested",
            Reason::External => "external",
            Reason::Connection(_) | Reason::Traffic => "connection",
            Reason::Guest => "guest",
            Reason::Failure => "failure",
            Reason::Exit => "exit",
        }
    }

    /// What woke the guest, for `status` and the log.
    pub(crate) fn waker(self) -> &'static str {
        match self {
            Reason::Connection(lane) => lane.name(),
            Reason::Traffic => "traffic",
            Reason::Requested => "request",
            other => other.name(),
        }
    }
}

/// What people ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Wake,
    Hibernate,
    Release,
    Stop { force: bool },
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
    /// The guest did not power off in time.
    NotStopped,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fact {
    /// The guest answers.
    Ready,
    /// A running QEMU was taken over.
    Adopted {
        paused: bool,
    },
    /// A client connected and waits for a lease.
    Opened(Lane),
    /// The client of a lease sent something while the guest sleeps, and waits.
    Wanted(Lane),
    /// A lease ended.
    Closed,
    /// Bytes moved on a counted connection at this instant.
    Traffic(Instant),
    /// The answer to [`Action::Look`].
    Work {
        busy: bool,
    },
    /// The deadline has passed.
    Timer,
    /// QEMU says that the guest was paused, by whomever.
    Paused,
    /// QEMU says that the guest goes on.
    Resumed,
    /// The guest powered itself off, or somebody else ends QEMU; QEMU will end.
    Shutdown {
        by_guest: bool,
    },
    /// The guest started anew.
    Reset,
    /// QEMU ended.
    Exited,
    /// The outcome of [`Action::Pause`], as QEMU says.
    PauseDone {
        paused: bool,
    },
    /// The outcome of [`Action::Resume`], as QEMU says.
    ResumeDone {
        running: bool,
    },
    /// The outcome of [`Action::Save`].
    SaveDone {
        saved: bool,
        paused: bool,
    },
    /// The outcome of [`Action::Quit`]. Unless `saved`, QEMU was left as it was, paused.
    QuitDone {
        saved: bool,
    },
    /// [`Action::Restore`] succeeded: the guest runs.
    Restored,
    /// [`Action::Restore`] found the memory of no use, and the guest boots anew.
    Rebooted,
    /// [`Action::Restore`] failed. `kept`: the saved memory is still good.
    RestoreFailed {
        kept: bool,
    },
    /// [`Action::ShutDown`] failed: the guest goes on as it was.
    StopFailed,
    Asked(Request),
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Pause,
    Resume,
    /// Find out whether the guest works. Answered by [`Fact::Work`].
    Look,
    /// Save the memory of the paused guest, and leave QEMU as it is.
    Save,
    /// The save is not wanted any more: the sooner it ends the better.
    HurrySave,
    /// Make the saved memory count, and end QEMU. [`Fact::Exited`] comes as well.
    Quit,
    Restore,
    /// The saved memory is not wanted any more.
    Discard,
    /// Everybody who waits may go on: the guest runs.
    Grant,
    /// Everybody who waits is sent away.
    Refuse(Refusal),
    /// The guest runs again: set its clock, tell others.
    AfterWake,
    /// The guest booted again: give it its workspace and the rest once more.
    SetUp,
    ShutDown {
        force: bool,
    },
    /// Answers every open request of this kind (a stop with or without force).
    Done(Request),
    Denied(Request, Refusal),
}
