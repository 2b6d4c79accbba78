//! What is on the disk of the device: the pool of images, the runtimes, and which one is active.

pub(crate) mod files;
pub(crate) mod pool;
mod runtimes;

pub(crate) use runtimes::{MANIFEST_LIMIT, Runtimes, check};
