//! The standard streams of this program, for a job that is a command of the user's own: it talks to
//! whoever started `avocado`, at a terminal or not.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus};

use rustix::io::FdFlags;

use crate::{Tool, ToolError};

/// Standard input, output and error of the program that declared the job.
#[derive(Debug)]
pub struct Terminal([OwnedFd; 3]);

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
    /// In the child: what it was lent. To be called once.
    #[allow(unsafe_code)]
    pub(crate) fn inherited(numbers: [RawFd; 3]) -> io::Result<Self> {
        // SAFETY: the parent opened these for this process, which has no other owner for them.
        let descriptors = numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) });
        for descriptor in &descriptors {
            rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
        }
        Ok(Terminal(descriptors))
    }

    /// Runs a tool that has them; answers how it ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(self, tool: Tool) -> Result<ExitStatus, ToolError> {
        tool.run_at(self.0)
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
