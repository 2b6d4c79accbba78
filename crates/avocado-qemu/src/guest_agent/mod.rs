//! The guest agent: a few things that only the guest itself can do.

mod agent;
mod clock;
mod protocol;

pub use agent::{CommandOutput, GuestAgent};
