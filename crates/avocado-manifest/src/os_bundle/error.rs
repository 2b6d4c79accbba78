use super::{LARGEST_OS_BUNDLE_DESCRIPTION, OS_BUNDLE_FORMAT};

/// `bundle.json` could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OsBundleError {
    /// It is larger than anything sensible.
    #[error(
        "bundle.json has {0} bytes, and {LARGEST_OS_BUNDLE_DESCRIPTION} are read at most; build the \
         OS bundle anew"
    )]
    TooLarge(usize),
    /// Not JSON, or not of its shape.
    #[error("bundle.json, `{field}`: it is not what the format has there")]
    Syntax {
        /// Which field, as `update.artifacts[0].sha256`; `.` for the whole.
        field: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A version of the format that this program does not know.
    #[error(
        "bundle.json has version {0} of its format; this program knows version {OS_BUNDLE_FORMAT}: \
         update avocadoctl"
    )]
    Version(u32),
    /// A field says something that cannot be.
    #[error("bundle.json, `{field}`: {why}")]
    Field {
        /// Which field, as `update.artifacts[0].slot_targets`.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// The index of its chunks is not JSON, or not of its shape.
    #[error("the index of the OS bundle's chunks is not what the format has")]
    Chunks(#[source] serde_json::Error),
    /// A version of that format that this program does not know.
    #[error(
        "the index of the OS bundle's chunks has version {0} of its format; this program knows \
         version 1: update avocadoctl"
    )]
    ChunksVersion(u32),
    /// It has no JSON form.
    #[error("bundle.json cannot be written")]
    Write(#[source] serde_json::Error),
}

impl OsBundleError {
    pub(super) fn field(field: impl Into<String>, why: impl Into<String>) -> Self {
        OsBundleError::Field {
            field: field.into(),
            why: why.into(),
        }
    }
}
