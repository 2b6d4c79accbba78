//! Stamps: what a task consumed and what came of it, so that it need not run again.
//!
//! A stamp is good when it was written by the same version of the program, for the same inputs,
//! and the files that it names are still there with their size and time. It is written last,
//! after the results are in place, so an interrupted run has none.

mod file;
mod key;
mod store;

pub(crate) use file::STAMP_VERSION;
pub use key::StampKey;
pub(crate) use store::ResultFiles;
pub use store::StampStore;
