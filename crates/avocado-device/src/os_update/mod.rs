//! Updates of the operating system: it is written to the slot that does not run, and proves itself when
//! it has been started.
//!
//! [`slot_policy`] is the order of it, which no cut of the power may break; the other modules do its
//! steps and ask nothing of it but what comes next.

pub(crate) mod pending_update;
#[cfg_attr(not(test), expect(dead_code, reason = "its steps come next"))]
mod slot_policy;
