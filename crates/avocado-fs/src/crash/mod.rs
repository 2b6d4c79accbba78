//! For tests: what was done to a disk, and every state in which a crash can leave it.
//!
//! A [`Recorder`] writes down what a piece of work does to a directory, and can end it after any
//! number of steps, as a kill would. A [`Disk`] is given these steps one by one; after each,
//! [`Disk::crash`] shows what a crash can leave: everything that was not synced by then may be
//! there or not, the entries of a directory in any combination, the bytes of a file not at all, in
//! part, whole, or as zeros.
//!
//! It is for tests, so what cannot be is a panic.

mod disk;
pub(crate) mod record;
#[cfg(test)]
mod tests;

pub use disk::{CrashState, Disk};
pub use record::{Op, Recorder};
