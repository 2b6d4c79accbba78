//! Waiting for something to become true.

use std::time::{Duration, Instant};

use crate::HarnessError;

/// How long between two looks. Each look is cheap; nothing depends on the value.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `look` has an answer, or fails, or `limit` is over; then `detail` tells more.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>, HarnessError>,
    detail: impl FnOnce() -> String,
) -> Result<T, HarnessError> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = look()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            return Err(HarnessError::Late {
                what: what.to_owned(),
                limit,
                detail: detail(),
            });
        }
        std::thread::sleep(PAUSE);
    }
}
