//! Where the `tracing` of both programs goes: lines for people, or fields in the journal.
//!
//! It is a subscriber of our own, because the device counts every byte: the usual one brings a
//! registry, a formatter and a regular-expression engine for what is two hundred lines here.
//!
//! What is recorded must hold no secret: a token is no field of any span or event. URLs are recorded
//! without user, password and query.

mod fields;
mod filter;
// systemd is where sockets of this kind are.
#[cfg(unix)]
mod journal;
mod subscriber;

pub use filter::{LogFilter, LogFilterError};
#[cfg(unix)]
pub use journal::{JournalSocket, is_journal};
pub use subscriber::{LogOutput, install};
pub use tracing::Level;
