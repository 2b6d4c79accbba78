//! The standard streams of this program, for a job that is a command of the user's own: it talks to
//! whoever started `avocado`, at a terminal or not.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::thread;

use rustix::io::FdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::termios::{OptionalActions, Termios};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::protocol::JobTerminal;
use crate::{Tool, ToolError};

/// Standard input, output and error of the program that declared the job.
#[derive(Debug)]
pub struct Terminal {
    streams: [OwnedFd; 3],
    /// Whether signals for the user's command reach this process, as the engine passes them to the
    /// first one of a container, and not the command.
    hands_on_signals: bool,
}

/// Copies of them for a child, which inherits them: they have no other way through the two
/// processes of a job.
pub(crate) struct LentTerminal([OwnedFd; 3]);

impl LentTerminal {
    pub(crate) fn new() -> io::Result<Self> {
        // `dup` makes descriptors that outlive the start of a program.
        Ok(LentTerminal([
            rustix::io::dup(io::stdin())?,
            rustix::io::dup(io::stdout())?,
            rustix::io::dup(io::stderr())?,
        ]))
    }

    /// What a child knows them by.
    pub(crate) fn numbers(&self) -> [RawFd; 3] {
        self.0.each_ref().map(|descriptor| descriptor.as_raw_fd())
    }
}

impl Terminal {
    /// In the child: what it has. To be called once.
    pub(crate) fn of_job(terminal: &JobTerminal) -> io::Result<Self> {
        match terminal {
            JobTerminal::Lent(numbers) => Terminal::inherited(*numbers),
            JobTerminal::Own => Terminal::own(),
        }
    }

    fn own() -> io::Result<Self> {
        let streams = [
            rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?,
            rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?,
            rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3)?,
        ];
        Ok(Terminal {
            // At a terminal of the container's own its keys are for all that run in front.
            hands_on_signals: !rustix::termios::isatty(io::stdin()),
            streams,
        })
    }

    #[allow(unsafe_code)]
    fn inherited(numbers: [RawFd; 3]) -> io::Result<Self> {
        // SAFETY: the parent opened these for this process, which has no other owner for them.
        let descriptors = numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) });
        for descriptor in &descriptors {
            rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
        }
        Ok(Terminal {
            streams: descriptors,
            hands_on_signals: false,
        })
    }

    /// Runs a tool that has them; answers how it ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(self, tool: Tool) -> Result<ExitStatus, ToolError> {
        tool.run_at(self.streams, self.hands_on_signals)
    }
}

/// Hands on to a process, for as long as this lives, the signals by which users end a command.
pub(crate) struct SignalForwarder(Handle);

/// Signals that came before there was a process for them.
pub(crate) struct HeldSignals(Signals);

impl HeldSignals {
    /// Keeps them from now on. The first process of a container would never hear of one otherwise.
    pub(crate) fn hold() -> io::Result<Self> {
        Ok(HeldSignals(Signals::new([
            SIGINT, SIGQUIT, SIGTERM, SIGHUP,
        ])?))
    }

    /// Hands them, and those that follow, to this child, which has not been waited for.
    pub(crate) fn hand_to(self, child: &Child) -> io::Result<SignalForwarder> {
        let HeldSignals(mut signals) = self;
        let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        let handle = signals.handle();
        thread::Builder::new().spawn(move || {
            for number in signals.forever() {
                if let Some(signal) = Signal::from_named_raw(number) {
                    // One that has ended needs none.
                    let _ = pidfd_send_signal(&process, signal);
                }
            }
        })?;
        Ok(SignalForwarder(handle))
    }
}

impl Drop for SignalForwarder {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// How the terminal at standard input was: what changed it for its own time, an engine or an editor, does
/// not change it back where it is stopped.
pub(crate) struct KeptTerminal(Option<Termios>);

impl KeptTerminal {
    pub(crate) fn new() -> Self {
        KeptTerminal(rustix::termios::tcgetattr(io::stdin()).ok())
    }

    /// Makes it that again. In the background it is another one's, who would be stopped for it.
    pub(crate) fn restore(&self) {
        let is_in_front = rustix::termios::tcgetpgrp(io::stdin())
            .is_ok_and(|group| group == rustix::process::getpgrp());
        if let (Some(was), true) = (&self.0, is_in_front) {
            let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, was);
        }
    }
}

/// Lets the child that `command` starts, and what that starts, live on when the user interrupts what
/// runs at the terminal: that is for the user's command alone.
pub(crate) fn ignore_interrupts(command: &mut Command) {
    set_interrupts(command, libc::SIG_IGN);
}

/// Undoes this for a program.
pub(crate) fn heed_interrupts(command: &mut Command) {
    set_interrupts(command, libc::SIG_DFL);
}

#[allow(unsafe_code)]
fn set_interrupts(command: &mut Command, action: libc::sighandler_t) {
    let set = move || {
        for signal in [libc::SIGINT, libc::SIGQUIT] {
            // SAFETY: neither action is a function of this program.
            if unsafe { libc::signal(signal, action) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure makes two system calls, allocates nothing and touches no memory of the
    // parent.
    unsafe { command.pre_exec(set) };
}
