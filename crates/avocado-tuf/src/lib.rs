//! A TUF repository: the writer for the host and the client for the device.
//!
//! - [`keys`] signs and verifies; [`keyring`] is the directory that keeps signing keys.
//! - [`writer`] turns files into a signed repository directory and keeps it fresh.
//! - [`client`] walks from a trusted root to a target's length and digests, following the client
//!   workflow of the TUF specification 1.0, and downloads targets so that an interruption costs
//!   nothing. It reaches the repository through a [`transport::Transport`]; [`http::Http`] is the
//!   one that devices use.
//!
//! What the network says is believed only after its signatures, version, expiry, length and
//! digest were checked, in that dependency order, and nothing is stored before.

mod canonical;
pub mod client;
mod delegation;
mod digests;
mod files;
pub mod http;
pub mod keyring;
pub mod keys;
mod metadata;
mod names;
mod pem;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;
pub mod writer;

pub use client::{Client, Error, Forget, Limits, Options, Remote, TargetInfo, Trusted};
pub use digests::Digests;
pub use files::PathError;
pub use keyring::Keyring;
pub use keys::{PublicKey, SigningKey};
pub use metadata::MetadataError;

pub use writer::{Publication, Published, Target, WriteError};
