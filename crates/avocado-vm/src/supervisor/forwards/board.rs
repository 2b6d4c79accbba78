//! What is told of the forwards, in the status.

use std::sync::{Mutex, PoisonError};

use crate::status::VmForward;

/// The forwards as they are, and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct ForwardBoard(Mutex<(Vec<VmForward>, Option<String>)>);

impl ForwardBoard {
    pub(super) fn set(&self, forwards: Vec<VmForward>, problem: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (forwards, problem);
    }

    pub(crate) fn forwards(&self) -> Vec<VmForward> {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.0.clone()
    }

    pub(crate) fn problem(&self) -> Option<String> {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.1.clone()
    }
}
