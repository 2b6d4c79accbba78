//! The state of a project on its way from one machine to another, as one file.
//!
//! The file is a tar archive. First comes `avocado-state.json`, which says what else is in it (`manifest`),
//! then `<target>.tar.zst` for each target: its part of the state as one of our archives of trees
//! (`trees/archive`), compressed with zstd. So a reader knows the digest and the length of everything
//! before it comes.
//!
//! `save` and `load` are the parent's sides, `request` is the child's: only there can everything of a tree
//! be read and written. What is on its way lies in a directory of the state (`moving_place`).

mod load;
mod manifest;
mod moving_place;
mod request;
mod save;
mod state_file;
#[cfg(test)]
mod tests;

pub use self::load::{LoadWish, load_state};
pub use self::manifest::{SAVED_STATE_FORMAT, SavedTarget};
pub(crate) use self::request::{PackStateRequest, UnpackStateRequest};
pub use self::save::save_state;

use avocado_events::{Event, Sink, StepStatus};
use avocado_manifest::Digest;

use crate::error::BuildError;

/// A state that was saved or loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedState {
    /// Which targets were moved, in the order of their names.
    pub targets: Vec<SavedTarget>,
    /// The SHA-256 of the whole file.
    pub sha256: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Tells of a part of the work as of a step.
fn told<T>(
    stage: &str,
    sink: &dyn Sink,
    work: impl FnOnce() -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    sink.emit(Event::step(stage, StepStatus::Running, ""));
    let done = work();
    let (status, message) = match &done {
        Ok(_) => (StepStatus::Success, String::new()),
        Err(error) => (StepStatus::Failed, error.to_string()),
    };
    sink.emit(Event::step(stage, status, message));
    done
}

/// Progress is told each time that so many bytes more are done.
const PROGRESS_STEP: u64 = 64 << 20;
