use avocado_events::{Cancel, Sink};
use avocado_project::LockFile;

use crate::error::BuildError;
use crate::layout::Layout;
use crate::options::Options;
use crate::packages::feed::Feed;
use crate::project_lock::lock_project;

/// Where an update moved a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// The snapshot before, if there was a pin.
    pub old: Option<String>,
    /// The snapshot now; `None` where the feed has no snapshots.
    pub new: Option<String>,
}

/// Moves the project to the newest snapshot of its feed and forgets the locked versions of its
/// packages; the next install chooses and locks again.
///
/// # Errors
/// When the feed does not answer or the lock cannot be read or written.
pub fn update(options: &Options, cancel: &Cancel, sink: &dyn Sink) -> Result<Updated, BuildError> {
    let project = &options.project;
    let layout = Layout::new(&project.state_dir(), &project.target);
    let _lock = lock_project(&layout, cancel, sink)?;
    let mut lock_file = LockFile::load(&project.src_dir)?;
    let feed = Feed::new(project, &options.network, cancel);
    feed.warn_of_clear_text(sink);
    let newest = feed.latest()?;
    let pin = lock_file.target(&project.target).and_then(|t| t.snapshot());
    let old = pin.map(|pin| pin.snapshot.clone());
    let new = newest.as_ref().map(|pin| pin.snapshot.clone());
    lock_file.clear_target(&project.target);
    lock_file.target_mut(&project.target).set_snapshot(newest);
    lock_file.save()?;
    Ok(Updated { old, new })
}
