//! The workspace in the guest: whether it is there, and who waits for it.

use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::super::jobs;
use super::super::policy::PolicyState;
use super::vm_owner::VmOwner;

/// The mount that is under way, if one is.
#[derive(Debug, Default)]
pub(super) struct WorkspaceMount {
    job: Option<AbortHandle>,
    /// Clients that wait for its outcome, or for the next where the guest fell asleep over it.
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
    /// It was unmounted by a save that succeeded, and nobody has tried to mount it since: another
    /// save has nothing to unmount.
    is_unmounted: bool,
}

impl VmOwner {
    /// A client needs the workspace. All who do at the same time share one mount.
    pub(super) fn mount_for_client(&mut self, reply: oneshot::Sender<Result<(), String>>) {
        // Without a machine nobody is left to tell.
        if self.machine.is_some() {
            self.workspace.waiting.retain(|reply| !reply.is_closed());
            self.workspace.waiting.push(reply);
            if self.policy.state() == PolicyState::Running {
                self.mount_workspace();
            }
        }
    }

    /// The guest woke, and may be without its workspace.
    pub(super) fn see_to_workspace(&mut self) {
        let is_needed =
            self.handle.shared.is_workspace_missing() || !self.workspace.waiting.is_empty();
        if is_needed && self.policy.state() == PolicyState::Running {
            self.mount_workspace();
        }
    }

    fn mount_workspace(&mut self) {
        let under_way = self.workspace.job.as_ref();
        if under_way.is_some_and(|job| !job.is_finished()) {
            return;
        }
        if let Some(machine) = self.machine.clone() {
            self.workspace.is_unmounted = false;
            let job = jobs::mount(machine, self.handle.shared.clone(), self.runs);
            self.workspace.job = Some(self.jobs.spawn(job));
        }
    }

    /// The end of a mount. One that fails says nothing of where the workspace is: the guest may only have
    /// been slow to answer.
    pub(super) fn on_mounted(&mut self, run: u64, result: Result<(), String>) {
        if run != self.runs || self.policy.state() != PolicyState::Running {
            return;
        }
        self.workspace.job = None;
        match &result {
            Ok(()) => self.handle.shared.set_workspace_missing(false),
            Err(why) => self
                .log
                .line(&format!("the workspace is not mounted: {why}")),
        }
        for reply in self.workspace.waiting.drain(..) {
            let _ = reply.send(result.clone());
        }
    }

    /// The guest does not run any more: a mount would only wait for it.
    pub(super) fn end_mount(&mut self) {
        if let Some(job) = self.workspace.job.take() {
            job.abort();
        }
    }

    /// The machine is gone: nobody gets the workspace.
    pub(super) fn forget_mount(&mut self) {
        self.end_mount();
        self.workspace = WorkspaceMount::default();
    }

    /// A machine that may have been on the way to a save, or back from one: the guest may be without its
    /// workspace.
    pub(super) fn doubt_workspace(&mut self) {
        let has_one = self.context.launch.workspace.is_some();
        self.handle.shared.set_workspace_missing(has_one);
    }

    /// A save begins. Says whether it has to unmount the workspace.
    pub(super) fn workspace_leaves(&mut self) -> bool {
        let has_one = self.context.launch.workspace.is_some();
        let shared = &self.handle.shared;
        // One that was never there is not missed.
        if !has_one || shared.is_agent_missing() {
            return false;
        }
        shared.set_workspace_missing(true);
        !self.workspace.is_unmounted
    }

    /// The memory is saved, without the workspace.
    pub(super) fn workspace_left(&mut self) {
        self.workspace.is_unmounted = true;
    }
}
