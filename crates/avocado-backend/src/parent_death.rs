//! The end of a process that started others.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    EXIT_FAILURE, PidfdFlags, Signal, getpid, pidfd_open, set_parent_process_death_signal, setsid,
};

/// Has a program killed where the thread that starts it ends, by whatever.
///
/// Without this a killed `avocado` would leave its package manager at work on a tree that the
/// next run is about to remove.
pub fn die_with_parent(command: &mut Command) {
    // A kernel without it (before Linux 5.3) leaves a gap of some microseconds.
    die_with(command, pidfd_open(getpid(), PidfdFlags::empty()).ok());
}

#[allow(unsafe_code)]
fn die_with(command: &mut Command, parent: Option<OwnedFd>) {
    let set = move || -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // One that died before that sends no signal any more. Its number says nothing where the
        // child is in another namespace.
        if let Some(parent) = &parent {
            let mut ended = [PollFd::new(parent, PollFlags::IN)];
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            if poll(&mut ended, Some(&now))? > 0 {
                // An error would go to the parent, and there is none: the standard library aborts
                // then, which the first process of a namespace that is traced goes on with for ever.
                // SAFETY: it makes one system call, in the child, and does not come back.
                unsafe { libc::_exit(EXIT_FAILURE) };
            }
        }
        Ok(())
    };
    // SAFETY: the closure makes three system calls at most, allocates nothing and touches no memory
    // of the parent.
    unsafe { command.pre_exec(set) };
}

/// Starts a process in a session of its own: it has no terminal to ask at, and is ended with all
/// that it starts.
#[allow(unsafe_code)]
pub(crate) fn in_own_session(command: &mut Command) {
    let set = || {
        setsid()?;
        Ok(())
    };
    // SAFETY: the closure makes one system call.
    unsafe { command.pre_exec(set) };
}

#[cfg(test)]
mod tests {
    use rustix::process::Pid;

    use super::*;

    #[test]
    fn nothing_is_started_for_a_parent_that_is_gone() {
        let mut parent = Command::new("cat");
        let mut parent = parent.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let handle = pidfd_open(Pid::from_child(&parent), PidfdFlags::empty()).unwrap();
        let start = |handle: OwnedFd| {
            let mut command = Command::new("true");
            die_with(&mut command, Some(handle));
            command.status().unwrap()
        };
        assert!(start(handle.try_clone().unwrap()).success());
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert_eq!(start(handle).code(), Some(EXIT_FAILURE));
    }
}
