//! No process runs on that none of ours knows of.

use super::handle::Process;

/// Kills a process when it is dropped, unless it is kept: a task that starts a process may be
/// cancelled at any `await` before anything owns that process.
#[derive(Debug)]
pub struct KillOnDrop(Option<Process>);

impl KillOnDrop {
    pub(crate) fn new(process: &Process) -> Self {
        KillOnDrop(Some(process.clone()))
    }

    /// The process has an owner now: it is not killed.
    pub fn keep(mut self) {
        self.0 = None;
    }

    /// Kills the process, and waits for its end.
    pub async fn kill(mut self) {
        // Dropped half way it still kills, so it is not taken out before the end.
        if let Some(process) = &self.0 {
            process.kill();
            process.exited().await;
        }
        self.0 = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.kill();
        }
    }
}
