//! Stopping between two blocks of a download, between two images, while waiting for a turn. What
//! was done stays usable; the same work goes on from there another time.

use avocado_events::Cancel;

use crate::Reason;

/// An error once the request to stop was made.
pub(crate) fn check(cancel: &Cancel) -> Result<(), Reason> {
    match cancel.is_cancelled() {
        true => Err(Reason::Cancelled),
        false => Ok(()),
    }
}
