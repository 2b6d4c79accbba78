//! The workspace in the guest: mounts it and unmounts it, each only where that is needed.

use avocado_qemu::GuestAgent;

use super::guest::{RunFailure, WORKSPACE, run};
use super::shared_state::SharedState;

/// Mounts the workspace, unless it is mounted. One at a time: of two that mount at once, one is told
/// that it is in use.
pub(crate) async fn mount_workspace(
    agent: &GuestAgent,
    shared: &SharedState,
) -> Result<(), RunFailure> {
    let _mounting = shared.lock_mounting().await;
    mount_with(agent).await
}

/// Unmounts the workspace, if it is mounted.
pub(crate) async fn unmount_workspace(agent: &GuestAgent) -> Result<(), RunFailure> {
    unmount_with(agent).await
}

/// What runs programs in a guest.
trait GuestPrograms {
    fn run(&self, line: &[&str]) -> impl Future<Output = Result<(), RunFailure>> + Send;
}

impl GuestPrograms for GuestAgent {
    async fn run(&self, line: &[&str]) -> Result<(), RunFailure> {
        run(self, line).await
    }
}

async fn mount_with(guest: &impl GuestPrograms) -> Result<(), RunFailure> {
    if is_mounted(guest).await? {
        return Ok(());
    }
    guest.run(&["mkdir", "-p", WORKSPACE]).await?;
    let options = "trans=virtio,version=9p2000.L,access=any,msize=262144";
    let line = ["mount", "-t", "9p", "-o", options, "workspace", WORKSPACE];
    match guest.run(&line).await {
        // One that was given up before, or somebody else, may have mounted it meanwhile.
        Err(RunFailure::Ended(_)) if matches!(is_mounted(guest).await, Ok(true)) => Ok(()),
        mounted => mounted,
    }
}

async fn unmount_with(guest: &impl GuestPrograms) -> Result<(), RunFailure> {
    if is_mounted(guest).await? {
        guest.run(&["umount", WORKSPACE]).await?;
    }
    Ok(())
}

/// Only what the program itself says tells: one that was not run, or not to its end, says nothing.
async fn is_mounted(guest: &impl GuestPrograms) -> Result<bool, RunFailure> {
    match guest.run(&["mountpoint", "-q", WORKSPACE]).await {
        Ok(()) => Ok(true),
        Err(RunFailure::Ended(_)) => Ok(false),
        Err(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A guest that answers to each program in turn, and what it was told to run.
    struct PlayedGuest {
        answers: RefCell<Vec<Result<(), RunFailure>>>,
        ran: RefCell<Vec<String>>,
    }

    impl GuestPrograms for PlayedGuest {
        fn run(&self, line: &[&str]) -> impl Future<Output = Result<(), RunFailure>> + Send {
            self.ran.borrow_mut().push(line[0].to_owned());
            std::future::ready(self.answers.borrow_mut().pop().unwrap())
        }
    }

    impl PlayedGuest {
        fn new(answers: &[Result<(), RunFailure>]) -> Self {
            PlayedGuest {
                answers: RefCell::new(answers.iter().rev().cloned().collect()),
                ran: RefCell::default(),
            }
        }
    }

    fn no() -> Result<(), RunFailure> {
        Err(RunFailure::Ended("no".to_owned()))
    }

    fn silent() -> Result<(), RunFailure> {
        Err(RunFailure::NotRun("too late".to_owned()))
    }

    #[tokio::test]
    async fn a_workspace_is_mounted_once_and_only_an_answer_tells_that_it_is_not() {
        for (answers, ran, expected) in [
            (vec![Ok(())], "mountpoint", Ok(())),
            (vec![no(), Ok(()), Ok(())], "mountpoint mkdir mount", Ok(())),
            (vec![silent()], "mountpoint", silent()),
            // Mounted by another one meanwhile.
            (
                vec![no(), Ok(()), no(), Ok(())],
                "mountpoint mkdir mount mountpoint",
                Ok(()),
            ),
            (
                vec![no(), Ok(()), no(), no()],
                "mountpoint mkdir mount mountpoint",
                no(),
            ),
            (
                vec![no(), Ok(()), silent()],
                "mountpoint mkdir mount",
                silent(),
            ),
        ] {
            let guest = PlayedGuest::new(&answers);
            let mounted = mount_with(&guest).await;
            assert_eq!(mounted, expected, "{ran}");
            assert_eq!(guest.ran.borrow().join(" "), ran);
        }
    }

    #[tokio::test]
    async fn a_guest_that_does_not_say_whether_it_is_mounted_does_not_count_as_unmounted() {
        for (answers, ran, expected) in [
            (vec![no()], "mountpoint", Ok(())),
            (vec![Ok(()), Ok(())], "mountpoint umount", Ok(())),
            (vec![Ok(()), no()], "mountpoint umount", no()),
            (vec![silent()], "mountpoint", silent()),
        ] {
            let guest = PlayedGuest::new(&answers);
            let unmounted = unmount_with(&guest).await;
            assert_eq!(unmounted, expected, "{ran}");
            assert_eq!(guest.ran.borrow().join(" "), ran);
        }
    }
}
