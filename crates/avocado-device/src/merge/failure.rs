use crate::error::FailureReason;

/// Why a set of extensions cannot be merged.
#[derive(Debug)]
pub(crate) struct SetFailure {
    /// Those of the set that it is about, each with its version; none where it is about the set as
    /// a whole.
    pub(crate) culprits: Vec<String>,
    pub(crate) reason: FailureReason,
}

impl SetFailure {
    /// A failure that is about one extension.
    pub(crate) fn of(culprit: impl Into<String>, reason: FailureReason) -> Self {
        SetFailure {
            culprits: vec![culprit.into()],
            reason,
        }
    }
}

impl From<FailureReason> for SetFailure {
    fn from(reason: FailureReason) -> Self {
        SetFailure {
            culprits: Vec::new(),
            reason,
        }
    }
}

/// A set was not merged.
#[derive(Debug)]
pub(crate) struct MergeFailure {
    pub(crate) set: SetFailure,
    /// Whether what was merged before is merged still.
    pub(crate) restored: bool,
    /// Whether anything of ours was merged before.
    pub(crate) anything_before: bool,
}

impl MergeFailure {
    /// Whether there may be nothing of ours to be seen now.
    pub(crate) fn leaves_nothing(&self) -> bool {
        !(self.restored && self.anything_before)
    }
}
