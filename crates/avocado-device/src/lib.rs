//! The device: its store, staging, activation and merging.
//!
//! [`Device`] is the one entry: the varlink service and the command line call the same functions.
//! The store is a small database on a file system (see `store`): what is in it is whole and
//! verified, changes are made under one lock, and `active` moves by one rename. Merging (see
//! `merge`) leaves the work on `/usr`, `/opt` and `/etc` to systemd.

mod config;
mod device;
mod error;
mod merge;
mod paths;
mod stage;
mod status;
mod store;
mod tool;

pub use config::{Config, ConfigError, Mutable};
pub use device::{Device, RuntimeEntry};
pub use error::{Error, Reason};
pub use paths::{Paths, Tools};
pub use stage::AddRequest;
pub use status::{ExtensionStatus, Status};
