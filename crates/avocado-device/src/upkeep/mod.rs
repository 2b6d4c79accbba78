//! Keeping the store in order: removing, pinning, pruning, verifying.

mod needed;
mod prune;
mod remove;
mod settle;
mod verify;

pub use prune::{PruneOptions, PruneReport, PrunedImage, PrunedRuntime};
pub(crate) use prune::{make_room, make_room_for, prune};
pub(crate) use remove::{remove, set_pinned};
pub(crate) use settle::{settle, settle_unlocked};
pub(crate) use verify::verify;
pub use verify::{StoreProblem, VerificationReport};
