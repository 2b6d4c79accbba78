//! What is on the disk of the device: the pool of images, the runtimes, and which one is active.

mod cache;
pub(crate) mod disk;
pub(crate) mod files;
pub(crate) mod history;
pub(crate) mod lock;
pub(crate) mod named;
pub(crate) mod pins;
pub(crate) mod pool;
mod runtimes;

pub(crate) use cache::Cache;
pub(crate) use runtimes::{Found, MANIFEST_LIMIT, Runtimes, check};
