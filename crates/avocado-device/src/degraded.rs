use std::fmt;

use avocado_manifest::RuntimeId;
use serde::{Deserialize, Serialize};

/// What should be merged on a device and cannot be, and what is merged in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DegradedState {
    /// The active runtime. None where it is not known, or where no runtime is active.
    pub wanted: Option<RuntimeId>,
    /// The runtime that is merged: another one, or a part of the active one. None where what is
    /// merged belongs to no runtime, or nothing is merged.
    pub merged: Option<RuntimeId>,
    /// The extensions that should be merged and are left out, each with its version; none where
    /// another runtime is merged or nothing is.
    pub left_out: Vec<String>,
    /// What is wrong with what should be merged, for people.
    pub why: String,
}

/// What is merged.
impl fmt::Display for DegradedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_out = self.left_out.join(", ");
        match (&self.wanted, self.left_out.is_empty()) {
            (Some(wanted), false) => {
                return write!(f, "runtime {wanted} is merged without {left_out}");
            }
            (None, false) => return write!(f, "the extensions are merged without {left_out}"),
            (Some(wanted), true) => write!(f, "runtime {wanted} cannot be merged")?,
            (None, true) => f.write_str("what should be merged cannot be")?,
        }
        match &self.merged {
            Some(merged) => write!(f, "; runtime {merged} is merged in its place"),
            None => f.write_str("; nothing is merged"),
        }
    }
}
