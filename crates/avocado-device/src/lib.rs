//! The device: its store, staging, activation and merging.
//!
//! [`Device`] is the one entry: the varlink service and the command line call the same functions.
//! The store is a small database on a file system (see `store`): what is in it is whole and
//! verified, and `active` moves by one rename. Whatever changes it does so under one lock, which
//! is held for short; who downloads holds another one, so that everything else works meanwhile.
//! Every state in which a crash can leave the store is one that the tests have seen (see `crash`).
//! Merging (see `merge`) leaves the work on `/usr`, `/opt` and `/etc` to systemd, and shows its
//! result at once.
// Devices run Linux.
#![cfg(target_os = "linux")]

mod cancel;
mod config;
#[cfg(test)]
mod crash;
mod device;
mod error;
mod extensions;
mod merge;
mod paths;
mod stage;
mod status;
mod store;
mod tool;
mod trust;
mod upkeep;

pub use avocado_events::Cancel;
pub use avocado_tuf::Forget;
pub use avocado_tuf::client::Known;
pub use avocado_tuf::http::{BadUrl, check_url};
pub use config::{Config, ConfigError, Mutable};
pub use device::{Device, Listing, RuntimeEntry, Unreadable};
pub use error::{Error, Reason};
pub use extensions::{Extension, Which};
pub use paths::{Paths, Tools};
pub use stage::{AddRequest, Plan, PlannedImage, Source};
pub use status::{ExtensionStatus, Status};
pub use trust::Repository;
pub use upkeep::{Problem, PruneOptions, Pruned, PrunedImage, PrunedRuntime, Verification};
