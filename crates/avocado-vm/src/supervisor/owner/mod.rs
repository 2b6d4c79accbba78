//! The one task that owns the VM. It takes what happens, asks the policy, and does what that says.
//! It waits for nothing but the next event: work is done by jobs, whose outcomes are events.
//!
//! `vm_owner` has what is owned, and does what the policy says; `events` turns what happens into
//! events of the policy; `run_loop` waits for it.

mod clock_watch;
mod cpu_meter;
mod events;
mod host_clock;
mod panic;
mod readiness;
mod run_loop;
mod status;
mod trimming;
mod vm_owner;
mod waiting_clients;
mod workspace;

pub(crate) use vm_owner::{OwnerParts, SharedRecord, VmOwner};
