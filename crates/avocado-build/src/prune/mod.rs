//! Removing from the state of a target what no build would look at again.
//!
//! Signed repositories stay, also those of runtimes that are gone: devices remember the version of
//! the metadata that they have seen, and refuse a repository that begins anew.

mod disk_space;
mod leftovers;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use avocado_events::{Cancel, Sink};
use avocado_project::{LockFile, Project};

use crate::error::BuildError;
use crate::layout::Layout;
use crate::project_lock::lock_project;
use disk_space::DiskSpace;

/// Something of the state that is not needed any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Where it is.
    pub path: PathBuf,
    /// Why nothing needs it, as in "extension `app` is gone".
    pub why: String,
    /// What removing it alone frees, in bytes.
    pub bytes: u64,
}

/// What was pruned, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Each of them, by path.
    pub leftovers: Vec<Leftover>,
    /// What removing them all frees, in bytes: a file that has another name elsewhere frees nothing.
    pub bytes: u64,
}

/// Removes what no extension, runtime, image or lock of `project` names any more from the state of
/// its target, and what interrupted builds left unfinished. With `dry_run` it only says so.
///
/// # Errors
/// When the state or the lock file cannot be read, something cannot be removed, or `cancel` asks
/// to stop.
pub fn prune(
    project: &Project,
    dry_run: bool,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<Pruned, BuildError> {
    let layout = Layout::new(&project.state_dir(), &project.target);
    if !layout.prefix().exists() {
        return Ok(Pruned::default());
    }
    let _lock = lock_project(&layout, cancel, sink)?;
    layout.check()?;
    let lock_file = LockFile::load(&project.src_dir)?;
    let mut pruned = Pruned::default();
    let mut all = DiskSpace::default();
    for (path, why) in leftovers::find(project, &layout, &lock_file, sink)? {
        let mut alone = DiskSpace::default();
        alone.add(&path);
        all.add(&path);
        let bytes = alone.freed();
        pruned.leftovers.push(Leftover { path, why, bytes });
    }
    pruned.bytes = all.freed();
    if !dry_run {
        for leftover in &pruned.leftovers {
            if cancel.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            avocado_fs::remove_tree(&leftover.path)?;
        }
    }
    Ok(pruned)
}
