//! `avocado.lock`: the exact packages of each target, and the feed snapshot they are from.

mod absent;
mod change;
mod diff;
mod document;
mod error;
mod file;
mod gone;
mod header;
mod json_text;
mod locked_tree;
mod migrate;
mod sysroot;

pub use diff::{LockChange, LockedThing};
pub use document::{LOCK_VERSION, Snapshot, TargetLock};
pub use error::LockFileError;
pub use file::LockFile;
pub use header::{PackageHeader, PackageHeaders};
pub use locked_tree::GitSource;
pub use sysroot::Sysroot;

#[cfg(test)]
mod tests;
