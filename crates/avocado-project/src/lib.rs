//! The project: avocado.yaml resolved for one target, its diagnostics, its lock file.
//!
//! [`load`] reads avocado.yaml and answers with a [`Project`] in which nothing is left to look
//! up: text is interpolated, overrides for the target are applied, names are checked. What is
//! wrong comes back as [`Diagnostic`]s with file, line and column. [`LockFile`] is `avocado.lock`.
//!
//! The route of the text, a module each: `yaml` (tree with places) → `interpolate` (`{{ … }}`) →
//! `overrides` (`target-<name>:`) → `decode` (`raw` structs) → `resolve` (the model).

mod decode;
mod diagnostic;
mod error;
mod interpolate;
mod load;
mod lock;
mod model;
mod overrides;
mod raw;
mod resolve;
mod suggest;
mod yaml;

pub use diagnostic::{Diagnostic, Severity};
pub use error::Error;
pub use load::{LoadOptions, Loaded, load};
pub use lock::{LOCK_VERSION, LockFile, Snapshot, Sysroot, TargetLock};
pub use model::*;
