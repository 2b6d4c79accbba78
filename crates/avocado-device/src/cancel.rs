//! Stopping between two blocks of a download, between two images, while waiting for a lock. What
//! was done stays usable; the same work goes on from there another time.

use avocado_events::Cancel;

use crate::error::FailureReason;

/// An error once the request to stop was made.
pub(crate) fn check(cancel: &Cancel) -> Result<(), FailureReason> {
    if cancel.is_cancelled() {
        return Err(FailureReason::Cancelled);
    }
    Ok(())
}
