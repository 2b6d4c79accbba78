use avocado_manifest::os_bundle::OsBundleError;

/// A stone manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoneError {
    /// It is not JSON, or a field has another shape than it should.
    #[error("`{field}` is not what it should be")]
    Syntax {
        /// The way to the field, or `.` for the whole.
        field: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An amount or a layout cannot be.
    #[error("`{at}` is not what it should be")]
    Disk {
        /// The way to what has it.
        at: String,
        /// Why.
        #[source]
        source: OsBundleError,
    },
    /// What the manifest says of updates is nothing that a device could do.
    #[error("an OS bundle cannot be described")]
    Bundle(#[from] OsBundleError),
    /// A field contradicts another one, or asks for what cannot be.
    #[error("`{field}`: {why}")]
    Invalid {
        /// The way to the field.
        field: String,
        /// What is wrong, and what would be right.
        why: String,
    },
}

impl StoneError {
    pub(crate) fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        StoneError::Invalid {
            field: field.into(),
            why: why.into(),
        }
    }
}
