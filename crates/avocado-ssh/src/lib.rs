//! The ssh client of this machine, as its user has configured it.
//!
//! [`SshClient`] is the way to one [`SshAddress`]: it makes the command lines. [`SshControl`] is one
//! connection that is kept open, over which many commands run; it ends with the value.

mod address;
mod client;
mod control;

pub use address::{SshAddress, SshAddressError, SshHost};
pub use client::{CONNECTION_FAILED, ConnectionFault, SshClient, SshError, quote};
pub use control::SshControl;
