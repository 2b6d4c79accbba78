//! A TUF repository: the writer for the host and the client for the device.
//!
//! - [`keys`] signs and verifies; [`keyring`] is the directory that keeps signing keys.
//! - [`writer`] turns files of every [`TargetKind`] into a signed repository directory and keeps it
//!   fresh. A [`Signer`] signs for each role: a key file, or a token or a server.
//! - [`client`] walks from a trusted root to a target's length and digests, following the client
//!   workflow of the TUF specification 1.0, and downloads targets so that an interruption costs
//!   nothing. It reaches the repository through an [`avocado_http::Transport`];
//!   [`avocado_http::HttpClient`] is the one that devices use.
//!
//! What the network says is believed only after its signatures, version, expiry, length and
//! digest were checked, in that dependency order, and nothing is stored before.

mod canonical;
pub mod client;
mod delegation;
mod digests;
pub mod keyring;
pub mod keys;
mod metadata;
mod metadata_error;
mod names;
mod pem;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod writer;

pub use client::{
    ClientLimits, ClientOptions, ForgetLevel, RemoteRepository, TargetInfo, TrustedMetadata,
    TufClient, TufError,
};
pub use digests::Digests;
pub use keyring::Keyring;
pub use keys::{PublicKey, SigningKey};
pub use metadata_error::MetadataError;
pub use writer::{
    Publication, PublicationTarget, PublishedVersions, RoleSigners, Signer, TargetKind, WriterError,
};
