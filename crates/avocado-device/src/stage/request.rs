use std::fmt;
use std::path::Path;

use avocado_http::without_secrets;
use jiff::Timestamp;

/// What to add, and from where.
#[derive(Clone)]
pub struct AddRequest {
    /// The repository, with `metadata/` and `targets/` below it.
    pub url: String,
    /// A bearer token for the repository and for `artifacts_url`.
    pub auth_token: Option<String>,
    /// Where the images are, if not below the repository's `targets/`.
    pub artifacts_url: Option<String>,
    /// The time of the system clock. Metadata must not have expired by then, nor by the newest
    /// time that trusted metadata was seen to be from.
    pub now: Timestamp,
}

impl fmt::Debug for AddRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddRequest")
            .field("url", &without_secrets(&self.url))
            .field(
                "artifacts_url",
                &self.artifacts_url.as_deref().map(without_secrets),
            )
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// Where a runtime comes from.
#[derive(Debug, Clone, Copy)]
pub enum RuntimeSource<'a> {
    /// A TUF repository.
    Repository(&'a AddRequest),
    /// A manifest file; the images are in the pool already.
    Manifest(&'a Path),
}
