//! What is on the disk of the device: the pool of images, the runtimes, and which one is active.
//!
//! Everything here that changes the disk goes through `avocado_fs::recorded`.

pub(crate) mod beside_manifest;
pub(crate) mod files;
pub(crate) mod history;
pub(crate) mod lock;
pub(crate) mod manifest_cache;
pub(crate) mod pins;
pub(crate) mod pool;
pub(crate) mod reserve;
pub(crate) mod runtimes;
pub(crate) mod signed;
pub(crate) mod staging;
pub(crate) mod standalone;
