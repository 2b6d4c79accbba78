//! What the commands that change the image of a stopped VM have in common.

use avocado_vm::access;
use avocado_vm::dir::{StateDir, StateFile};
use avocado_vm::lock::VmLock;

use super::{failure, machine};
use crate::failure::{Failure, Result};

/// The lock, where nothing runs.
pub(super) fn lock_stopped(dir: &StateDir, doing: &str) -> Result<VmLock> {
    let lock = VmLock::take(dir, doing).map_err(|error| {
        let busy = matches!(error, avocado_vm::VmError::Busy { .. });
        if busy {
            failure(error).hint("stop the VM first: `avocado vm stop`")
        } else {
            failure(error)
        }
    })?;
    if machine::status(dir)?.running {
        Err(Failure::new("the VM is running").hint("stop it first: `avocado vm stop`"))
    } else {
        Ok(lock)
    }
}

/// What belongs to the guest as it was: its saved memory, what ran it, its host key.
pub(super) fn forget_guest(dir: &StateDir) -> Result<()> {
    // What makes the memory count goes first.
    for file in [StateFile::Saved, StateFile::SavedMemory, StateFile::Machine] {
        dir.remove(file).map_err(failure)?;
    }
    access::forget_host(dir).map_err(failure)
}
