use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Reason;

/// Asks long work to stop: between two blocks of a download, between two images, while it waits
/// for its turn. What was done stays usable; the same work goes on from there another time.
/// Clones are the same request.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A request that nobody has made yet.
    pub fn new() -> Self {
        Cancel::default()
    }

    /// Makes the request. It cannot be taken back.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the request was made.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> Result<(), Reason> {
        match self.is_cancelled() {
            true => Err(Reason::Cancelled),
            false => Ok(()),
        }
    }
}
