use crate::metadata_error::MetadataError;
use avocado_fs::PathError;
use avocado_http::TransportError;

/// Why a repository or a part of it is not used. `role` is the role's name as the metadata has it.
#[derive(Debug, thiserror::Error)]
pub enum TufError {
    /// The trust anchor that the caller gave is no usable root.
    #[error("the trust anchor is no usable root metadata")]
    Anchor(#[source] MetadataError),
    /// Metadata that is malformed, of another kind, or not signed as it has to be.
    #[error("the metadata of `{role}` is not acceptable")]
    Metadata {
        /// The role.
        role: String,
        /// What is wrong.
        #[source]
        source: MetadataError,
    },
    /// Metadata is past its time.
    #[error("the metadata of `{role}` expired at {at}{}", judged(at, clock, remembered.as_ref()))]
    Expired {
        /// The role.
        role: String,
        /// The end of its time.
        at: jiff::Timestamp,
        /// What the system clock says.
        clock: jiff::Timestamp,
        /// The newest trusted time, where that is later than the clock, and judged by.
        remembered: Option<jiff::Timestamp>,
    },
    /// The repository offers something older than what was trusted before.
    #[error("the repository went back from version {trusted} of `{role}` to {offered}")]
    Rollback {
        /// The role.
        role: String,
        /// What was trusted.
        trusted: u64,
        /// What is offered.
        offered: u64,
    },
    /// The same version with other content.
    #[error("version {version} of `{role}` has changed since it was trusted")]
    Changed {
        /// The role.
        role: String,
        /// The version.
        version: u64,
    },
    /// Metadata of another version than the one announced.
    #[error("version {expected} of `{role}` was announced and {found} came")]
    Version {
        /// The role.
        role: String,
        /// The version announced.
        expected: u64,
        /// The version found.
        found: u64,
    },
    /// Metadata that has not the length or the digests announced.
    #[error("the metadata of `{role}` is not what was announced: its length or digest differs")]
    Announced {
        /// The role.
        role: String,
    },
    /// A role is needed and the snapshot does not list it.
    #[error("the snapshot does not list `{role}`")]
    NotInSnapshot {
        /// The role.
        role: String,
    },
    /// A role was listed by the trusted snapshot and is no longer.
    #[error("the snapshot no longer lists {file}")]
    Vanished {
        /// The metadata file.
        file: String,
    },
    /// In the older layout, metadata is announced without a digest.
    #[error("no digest ties the metadata of `{role}` to what announces it")]
    Unbound {
        /// The role.
        role: String,
    },
    /// A role's name is too long to be stored under.
    #[error("the name of the role `{role}` is too long")]
    RoleName {
        /// The role.
        role: String,
    },
    /// The name of a target is no plain relative path.
    #[error("`{}` cannot be the name of a target", .0.escape_debug())]
    TargetName(String),
    /// More roles than the limit were visited in search of a target.
    #[error("gave up searching for the target `{target}` after {visited} delegated roles")]
    TooManyRoles {
        /// The target.
        target: String,
        /// How many were visited.
        visited: usize,
    },
    /// A file is longer than announced or allowed.
    #[error("{url} is longer than {limit} bytes")]
    TooLong {
        /// The file.
        url: String,
        /// The most that was acceptable.
        limit: u64,
    },
    /// A target was transferred whole and has other digests.
    #[error("the target `{target}` is not what the metadata describes: its digest differs")]
    Digest {
        /// The target.
        target: String,
    },
    /// The metadata gives no digest of a known algorithm.
    #[error("the target `{target}` has no digest that can be checked")]
    NoDigest {
        /// The target.
        target: String,
    },
    /// A file could not be fetched.
    #[error("cannot fetch {url}")]
    Fetch {
        /// The file.
        url: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// The settings of the network cannot be used.
    #[error("the network settings cannot be used")]
    Network(#[from] avocado_http::NetworkSettingsError),
    /// A local file could not be read or written.
    #[error("cannot use a local file")]
    Io(#[from] PathError),
}

/// By what it was judged, where that is not the clock alone.
fn judged(
    at: &jiff::Timestamp,
    clock: &jiff::Timestamp,
    remembered: Option<&jiff::Timestamp>,
) -> String {
    match remembered {
        Some(time) if at > clock => format!(
            "; the clock says {clock}, but earlier metadata of this repository was from {time} or \
             was judged then, and that is remembered"
        ),
        _ => format!("; the clock says {clock}"),
    }
}
