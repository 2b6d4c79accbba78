//! What the server says of an export.

use std::path::Path;

use crate::store::files;

/// The file, at the root of an export, in which our own server counts changes. Others have none:
/// then a change of a file shows itself, and what was looked for in vain before may stay unseen.
const REVISION: &str = ".avocado-hitl-revision";

/// More than any count takes, in bytes.
const LIMIT: u64 = 64;

/// The revision of the export that is mounted at `place`. Overlays remember what is below them, so
/// that something new is seen for certain only once it is merged again.
pub(super) fn revision(place: &Path) -> Option<String> {
    let bytes = files::read_regular(&place.join(REVISION), LIMIT).ok()?;
    String::from_utf8(bytes).ok()
}
