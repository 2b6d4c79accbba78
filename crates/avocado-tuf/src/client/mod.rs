//! The client: from a trusted root to verified targets.
//!
//! [`TufClient::refresh`] follows the client workflow of the specification: newer roots one version
//! at a time, then timestamp, snapshot and targets, each checked against what was trusted before.
//! [`TufClient::target`] searches the delegated roles, fetching only the ones that it visits, and
//! [`TufClient::download`] brings the bytes.
//!
//! # Time
//!
//! Expiry is judged by one time for the whole of a refresh: the later of [`ClientOptions::start_time`],
//! which should be the system clock, and the *newest trusted time*, which is kept with the trusted
//! metadata. After each refresh that succeeds, that is the later of the time it was judged by and
//! the time at which the timestamp was signed, where the publisher says it (ours does, in the field
//! `x-avocado-issued`). It is written down to the hour.
//!
//! A device whose clock begins anew with each start (no battery, no network time yet) is protected
//! by it from metadata that had expired when it last refreshed: an attacker between the device and
//! the repository can hold back news, but not take it further back than to that moment. (Versions
//! never go back, whatever the clock says.) This does *not* protect
//!
//! - a device that has not refreshed yet, or whose clock was always behind while the publisher
//!   gives no times: the clock is all there is then;
//! - from metadata that expires later than the newest trusted time: time that went by while the
//!   device was off, or in this refresh, is not known;
//! - the certificates of an https server: rustls would take another clock, but `ureq` makes its
//!   settings and offers no way to hand it one, so they are judged by the system clock alone. A
//!   device without a clock needs plain http, or a clock that is roughly right, before it connects.
//!   (The newest trusted time would not help it much either: a server's certificate is often
//!   younger than the last refresh, and then not valid yet.)
//!
//! A clock that is ahead makes good metadata look expired and the refresh fail; of such a time
//! nothing is remembered. Since only times before every expiry are, a device cannot be put further
//! into the future than its own repository's metadata reaches; and when the timestamp's keys are
//! replaced, the time that was learnt under the old ones no longer counts. A publisher whose clock was
//! ahead takes back what it said with its next publication: a newer timestamp that says an earlier
//! time of itself.
//!
//! # The older layout
//!
//! Publishers of an older kind break three rules: the version of their metadata is always 1 while
//! its content changes, roles that were delegated to vanish from the snapshot with the next
//! publication, and the metadata of delegated roles lies under `delegations/`. With
//! [`ClientOptions::relax_legacy`] this is accepted from them alone: the root must say
//! `consistent_snapshot: false`, and the snapshot must list files below `delegations/` that it
//! does not list under their standard name. [`TufClient::is_relaxed`] says whether it was.
//!
//! Signatures, expiry, lengths, digests and delegated paths are checked there as everywhere. As
//! the version says nothing, every announcement has to give a digest, and a timestamp of the same
//! version must not expire earlier than the trusted one, so that a repository cannot be taken back
//! to an earlier publication (of the same second at most). Without the option such a repository is
//! not read at all, as the specification wants it.
//!
//! # Beginning again
//!
//! A repository that is deleted and set up anew at the same URL, with the same keys, looks like an
//! attack to a device that knew the old one. When its owner says that it is none,
//! [`reset`] makes the device begin again, without ever giving up the newest root:
//!
//! | the error | what happened | [`ForgetLevel`] |
//! |---|---|---|
//! | [`TufError::Vanished`] | the new repository has not the roles of the old one | [`ForgetLevel::Roles`] |
//! | [`TufError::Rollback`] of any role but the two below | its versions count from the beginning again | [`ForgetLevel::Roles`] |
//! | [`TufError::Rollback`] of `timestamp` or `snapshot`, [`TufError::Changed`] | so do theirs | [`ForgetLevel::Versions`] |
//! | [`TufError::Expired`] though nothing is, by a clock that is right | a publisher's clock was ahead | [`ForgetLevel::Time`] |
//!
//! Keys that were replaced need no reset: what they signed no longer counts.

mod clock;
mod destination;
mod download;
mod error;
mod known;
mod limits;
mod rate;
mod reset;
mod retry;
mod roots;
mod search;
mod store;
mod target_reader;
mod update;

use std::fmt;
use std::path::PathBuf;

use avocado_http::{HttpClient, NetworkSettings, RepositoryUrl, Transport};
pub use destination::{Destination, DownloadOrigin, FileDestination, NoDestination, ResumePoint};
pub use error::TufError;
pub use known::KnownMetadata;
pub use limits::ClientLimits;
pub use reset::{ForgetLevel, reset};
pub use roots::{check_root_of, newest_root, stored_root};
pub use search::TargetInfo;
pub use target_reader::TargetReader;

use crate::metadata::{RootMetadata, SnapshotMetadata, TargetsMetadata};
use roots::TrustedRoot;
use store::MetadataStore;

/// What is believed before anything is fetched.
#[derive(Debug, Clone)]
pub struct TrustedMetadata {
    /// Where the trusted metadata of this one repository is kept. Created with the first metadata
    /// that is trusted. The caller serialises clients over the same directory.
    pub directory: PathBuf,
    /// Where the newest root is kept, which replaces the trust anchor. One place for all
    /// repositories under that anchor: keys that were replaced at one of them are replaced at each.
    /// May be `directory`. The caller serialises clients over it.
    pub root_directory: PathBuf,
    /// The trust anchor: the bytes of a root.
    pub root: Vec<u8>,
}

/// Where the repository is.
#[derive(Clone)]
pub struct RemoteRepository {
    /// The URL of the `metadata` directory.
    pub metadata_url: RepositoryUrl,
    /// The URL of the `targets` directory.
    pub targets_url: RepositoryUrl,
    /// A bearer token, sent to these two URLs and nowhere else.
    pub auth_token: Option<String>,
}

impl fmt::Debug for RemoteRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteRepository")
            .field("metadata_url", &self.metadata_url.as_str())
            .field("targets_url", &self.targets_url.as_str())
            .finish_non_exhaustive()
    }
}

/// How to go about it.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The system clock. Expiry is judged by it, or by the newest trusted time where that is
    /// later, for the whole life of the client; see [`crate::client`].
    pub start_time: jiff::Timestamp,
    /// Bounds on what a repository can make the client do.
    pub limits: ClientLimits,
    /// Accept what publishers of the older layout do differently; see [`crate::client`].
    pub relax_legacy: bool,
}

/// A client of one repository.
pub struct TufClient {
    store: MetadataStore,
    /// Where the newest root is kept.
    roots: MetadataStore,
    anchor: Vec<u8>,
    transport: Box<dyn Transport>,
    metadata_url: RepositoryUrl,
    targets_url: RepositoryUrl,
    options: ClientOptions,
    root: RootMetadata,
    root_bytes: Vec<u8>,
    /// What expiry is judged by.
    now: jiff::Timestamp,
    current: Option<RefreshedMetadata>,
}

/// What a refresh ended with.
struct RefreshedMetadata {
    snapshot: SnapshotMetadata,
    targets: TargetsMetadata,
}

impl fmt::Debug for TufClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TufClient")
            .field("metadata_url", &self.metadata_url.as_str())
            .field("targets_url", &self.targets_url.as_str())
            .finish_non_exhaustive()
    }
}

impl TufClient {
    /// A client over HTTP, directly and with the public CAs. Checks the trust anchor; makes no
    /// request.
    pub fn open(
        trusted: TrustedMetadata,
        remote: RemoteRepository,
        options: ClientOptions,
    ) -> Result<Self, TufError> {
        TufClient::open_over(&NetworkSettings::default(), trusted, remote, options)
    }

    /// A client over HTTP as `network` says. Checks the trust anchor; makes no request.
    pub fn open_over(
        network: &NetworkSettings,
        trusted: TrustedMetadata,
        remote: RemoteRepository,
        options: ClientOptions,
    ) -> Result<Self, TufError> {
        let bases = [remote.metadata_url.clone(), remote.targets_url.clone()];
        let ClientLimits { connect, read, .. } = options.limits;
        let http = HttpClient::over(network, &bases, remote.auth_token.clone(), connect, read)?;
        TufClient::with_transport(trusted, &remote, options, Box::new(http))
    }

    /// A client over any transport. The token of `remote` is for the transport to send.
    pub fn with_transport(
        trusted: TrustedMetadata,
        remote: &RemoteRepository,
        options: ClientOptions,
        transport: Box<dyn Transport>,
    ) -> Result<Self, TufError> {
        let TrustedMetadata {
            directory,
            root_directory,
            root: anchor,
        } = trusted;
        let TrustedRoot { root, bytes } =
            roots::take_up(&root_directory, &anchor, std::slice::from_ref(&directory))?;
        let mut client = TufClient {
            store: MetadataStore::at(directory),
            roots: MetadataStore::at(root_directory),
            anchor,
            transport,
            metadata_url: remote.metadata_url.clone(),
            targets_url: remote.targets_url.clone(),
            now: options.start_time,
            options,
            root,
            root_bytes: bytes,
            current: None,
        };
        client.now = client.judging_time()?;
        Ok(client)
    }

    /// Brings the top-level metadata up to date. On an error nothing newer is trusted than what
    /// was verified up to there.
    pub fn refresh(&mut self) -> Result<(), TufError> {
        self.current = None;
        self.current = Some(self.update()?);
        Ok(())
    }

    /// The bytes of the newest trusted root: the trust anchor, or what it was replaced by.
    pub fn root(&self) -> &[u8] {
        &self.root_bytes
    }

    /// The time that expiry is judged by. Later than [`ClientOptions::start_time`] where the system clock
    /// is behind the newest trusted time, which is worth a word in a log.
    pub fn judged_by(&self) -> jiff::Timestamp {
        self.now
    }

    /// Whether the last refresh found the older layout, and with it took what
    /// [`ClientOptions::relax_legacy`] allows.
    pub fn is_relaxed(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| self.relaxes(&current.snapshot))
    }
}
