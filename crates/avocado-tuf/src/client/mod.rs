//! The client: from a trusted root to verified targets.
//!
//! [`Client::refresh`] follows the client workflow of the specification: newer roots one version
//! at a time, then timestamp, snapshot and targets, each checked against what was trusted before.
//! [`Client::target`] searches the delegated roles, fetching only the ones that it visits, and
//! [`Client::download`] brings the bytes.
//!
//! # The older layout
//!
//! Publishers of an older kind break three rules: the version of their metadata is always 1 while
//! its content changes, roles that were delegated to vanish from the snapshot with the next
//! publication, and the metadata of delegated roles lies under `delegations/`. With
//! [`Options::relax_legacy`] this is accepted from them alone: the root must say
//! `consistent_snapshot: false`, and the snapshot must list files below `delegations/` that it
//! does not list under their standard name. Signatures, expiry, lengths, digests and delegated
//! paths are checked there as everywhere, and since the version says nothing, a timestamp of the
//! same version must not expire earlier than the trusted one. Without the option such a
//! repository works until its content changes, as the specification wants it.

mod download;
mod error;
mod retry;
mod search;
mod store;

use std::path::PathBuf;
use std::time::Duration;

pub use error::Error;
pub use search::TargetInfo;

use crate::http::{Http, directory};
use crate::metadata::{
    Authority, Kind, MetaFile, MetadataError, Root, Snapshot, Targets, Timestamp, Unverified,
};
use crate::names::role_file;
use crate::transport::{Transport, TransportError};
use retry::fetch;
use store::Store;

/// Where the files of delegated roles are in the older layout.
const LEGACY: &str = "delegations/";

/// What is believed before anything is fetched.
#[derive(Debug, Clone)]
pub struct Trusted {
    /// Where the trusted metadata of this one repository is kept. Created where it is missing.
    /// The caller serialises clients over the same directory.
    pub directory: PathBuf,
    /// The trust anchor: the bytes of a root.
    pub root: Vec<u8>,
}

/// Where the repository is.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The URL of the `metadata` directory.
    pub metadata_url: String,
    /// The URL of the `targets` directory.
    pub targets_url: String,
    /// A bearer token, sent to these two URLs and nowhere else.
    pub auth_token: Option<String>,
}

/// How to go about it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The time that expiry is judged by, for the whole life of the client.
    pub start_time: jiff::Timestamp,
    /// Bounds on what a repository can make the client do.
    pub limits: Limits,
    /// Accept what publishers of the older layout do differently; see [`crate::client`].
    pub relax_legacy: bool,
}

/// Bounds on what a repository can make the client do. Lengths are in bytes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest root.
    pub root: u64,
    /// The longest timestamp.
    pub timestamp: u64,
    /// The longest snapshot, where the timestamp does not say it.
    pub snapshot: u64,
    /// The longest targets metadata, where the snapshot does not say it.
    pub targets: u64,
    /// The most new roots taken in one refresh.
    pub root_rotations: u32,
    /// The most delegated roles visited in search of one target.
    pub delegations: usize,
    /// How often a request is made in a row without any success.
    pub attempts: u32,
    /// The pause after a first failure; it doubles with each further one, up to 30 seconds.
    pub pause: Duration,
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// How long a connection may stay silent.
    pub read: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Limits {
            root: MIB,
            timestamp: 64 * 1024,
            snapshot: 4 * MIB,
            targets: 10 * MIB,
            root_rotations: 256,
            delegations: 32,
            attempts: 5,
            pause: Duration::from_millis(500),
            connect: Duration::from_secs(15),
            read: Duration::from_secs(30),
        }
    }
}

/// A client of one repository.
pub struct Client {
    store: Store,
    transport: Box<dyn Transport>,
    metadata_url: String,
    targets_url: String,
    options: Options,
    root: Root,
    root_bytes: Vec<u8>,
    current: Option<Current>,
}

/// What a refresh ended with.
struct Current {
    snapshot: Snapshot,
    targets: Targets,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("metadata_url", &self.metadata_url)
            .field("targets_url", &self.targets_url)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client over HTTP. Checks the trust anchor; makes no request.
    pub fn open(trusted: Trusted, remote: Remote, options: Options) -> Result<Self, Error> {
        let bases = [remote.metadata_url.as_str(), remote.targets_url.as_str()];
        let Limits { connect, read, .. } = options.limits;
        let http = Http::new(&bases, remote.auth_token.clone(), connect, read);
        Client::with_transport(trusted, &remote, options, Box::new(http))
    }

    /// A client over any transport. The token of `remote` is for the transport to send.
    pub fn with_transport(
        trusted: Trusted,
        remote: &Remote,
        options: Options,
        transport: Box<dyn Transport>,
    ) -> Result<Self, Error> {
        let parse = |bytes: &[u8]| Unverified::parse(bytes)?.verify_root(None);
        let anchor = parse(&trusted.root).map_err(Error::Anchor)?;
        let store = Store::open(trusted.directory)?;
        let stored = store.root(&trusted.root)?;
        let stored = stored.and_then(|bytes| Some((parse(&bytes).ok()?, bytes)));
        let (root, root_bytes) = match stored {
            Some(stored) => stored,
            None => {
                store.reset_root(&trusted.root)?;
                (anchor, trusted.root)
            }
        };
        Ok(Client {
            store,
            transport,
            metadata_url: directory(&remote.metadata_url),
            targets_url: directory(&remote.targets_url),
            options,
            root,
            root_bytes,
            current: None,
        })
    }

    /// Brings the top-level metadata up to date. On an error nothing newer is trusted than what
    /// was verified up to there.
    pub fn refresh(&mut self) -> Result<(), Error> {
        self.current = None;
        self.current = Some(self.update()?);
        Ok(())
    }

    /// The bytes of the newest trusted root: the trust anchor, or what it was replaced by.
    pub fn root(&self) -> &[u8] {
        &self.root_bytes
    }

    /// Whether the last refresh found the older layout, and with it took what
    /// [`Options::relax_legacy`] allows.
    pub fn is_relaxed(&self) -> bool {
        let current = self.current.as_ref();
        self.tolerant() && current.is_some_and(|current| is_legacy(&current.snapshot))
    }

    fn update(&mut self) -> Result<Current, Error> {
        self.update_root()?;
        let (timestamp, unsettled) = self.update_timestamp()?;
        let snapshot = self.update_snapshot(&timestamp, unsettled)?;
        let authority = self.root.authority(&self.root.roles.targets);
        let targets = self.role("targets", &snapshot, &authority)?;
        Ok(Current { snapshot, targets })
    }

    /// Whether the repository may be of the older layout, and that is acceptable.
    fn tolerant(&self) -> bool {
        self.options.relax_legacy && !self.root.consistent_snapshot
    }

    fn update_root(&mut self) -> Result<(), Error> {
        let role = "root";
        for _ in 0..self.options.limits.root_rotations {
            let expected = self.root.version.saturating_add(1);
            let url = format!("{}{expected}.root.json", self.metadata_url);
            let bytes = match self.fetch(&url, self.options.limits.root) {
                Err(Error::Fetch {
                    source: TransportError::Missing(_),
                    ..
                }) => break,
                bytes => bytes?,
            };
            let root = Unverified::parse(&bytes)
                .and_then(|root| root.verify_root(Some(&self.root)))
                .map_err(not_acceptable(role))?;
            same_version(role, expected.get(), root.version())?;
            self.store.write(role, &bytes)?;
            self.root = root;
            self.root_bytes = bytes;
        }
        // Only the last root has to be fresh: the others are steps on the way.
        self.fresh(role, &self.root)
    }

    /// The timestamp to go by. The bytes are returned with it where it is of the trusted version
    /// but differs, which only the older layout may do: then it is not stored yet.
    fn update_timestamp(&self) -> Result<(Timestamp, Option<Vec<u8>>), Error> {
        let role = "timestamp";
        let authority = self.root.authority(&self.root.roles.timestamp);
        let trusted: Option<(Timestamp, _)> = self.stored(role, &authority)?;

        let url = format!("{}timestamp.json", self.metadata_url);
        let bytes = self.fetch(&url, self.options.limits.timestamp)?;
        let offered: Timestamp = verified(role, &bytes, &authority)?;

        let mut unsettled = false;
        if let Some((trusted, trusted_bytes)) = trusted {
            not_older(role, trusted.version(), offered.version())?;
            if offered.version == trusted.version {
                if bytes == trusted_bytes || !self.tolerant() {
                    self.fresh(role, &trusted)?;
                    return Ok((trusted, None));
                }
                if offered.expires < trusted.expires {
                    return Err(Error::Changed {
                        role: role.to_owned(),
                        version: offered.version(),
                    });
                }
                unsettled = true;
            }
            let (old, new) = (trusted.snapshot(), offered.snapshot());
            not_older("snapshot", old.version.get(), new.version.get())?;
        }
        self.fresh(role, &offered)?;
        if unsettled {
            return Ok((offered, Some(bytes)));
        }
        self.store.write(role, &bytes)?;
        Ok((offered, None))
    }

    fn update_snapshot(
        &self,
        timestamp: &Timestamp,
        unsettled: Option<Vec<u8>>,
    ) -> Result<Snapshot, Error> {
        let role = "snapshot";
        let authority = self.root.authority(&self.root.roles.snapshot);
        let meta = timestamp.snapshot();
        let trusted: Option<(Snapshot, _)> = self.stored(role, &authority)?;

        // What is stored need not be fetched again if it is what the timestamp announces.
        let (offered, fetched) = match &trusted {
            Some((snapshot, bytes)) if self.is_current(snapshot, meta, bytes) => {
                (snapshot.clone(), None)
            }
            _ => {
                let limit = self.options.limits.snapshot;
                let url = self.versioned(meta, "snapshot.json");
                let bytes = self.announced(role, meta, &url, limit)?;
                let offered = verified(role, &bytes, &authority)?;
                (offered, Some(bytes))
            }
        };
        same_version(role, meta.version.get(), offered.version())?;

        let was_legacy = trusted.as_ref().is_some_and(|(s, _)| is_legacy(s));
        let tolerant = self.tolerant() && (was_legacy || is_legacy(&offered));
        if unsettled.is_some() && !tolerant {
            return Err(Error::Changed {
                role: "timestamp".to_owned(),
                version: timestamp.version(),
            });
        }
        for (file, old) in trusted.iter().flat_map(|(trusted, _)| &trusted.meta) {
            match offered.meta.get(file) {
                Some(new) => not_older(
                    file.strip_suffix(".json").unwrap_or(file),
                    old.version.get(),
                    new.version.get(),
                )?,
                None if tolerant && was_legacy && file.starts_with(LEGACY) => {}
                None => return Err(Error::Vanished { file: file.clone() }),
            }
        }
        self.fresh(role, &offered)?;
        if let Some(bytes) = unsettled {
            self.store.write("timestamp", &bytes)?;
        }
        if let Some(bytes) = fetched {
            self.store.write(role, &bytes)?;
        }
        Ok(offered)
    }

    /// The targets metadata of a role that the snapshot lists, from the store or the repository.
    /// It is verified for this delegation each time, whoever else delegates to it.
    fn role(
        &self,
        role: &str,
        snapshot: &Snapshot,
        authority: &Authority<'_>,
    ) -> Result<Targets, Error> {
        let (meta, url) = self.locate(role, snapshot)?;
        if let Some((targets, bytes)) = self.stored::<Targets>(role, authority)?
            && self.is_current(&targets, meta, &bytes)
        {
            return Ok(targets);
        }
        let bytes = self.announced(role, meta, &url, self.options.limits.targets)?;
        let targets: Targets = verified(role, &bytes, authority)?;
        same_version(role, meta.version.get(), targets.version())?;
        self.fresh(role, &targets)?;
        self.store.write(role, &bytes)?;
        Ok(targets)
    }

    /// What the snapshot says about a role and the URL of its metadata.
    fn locate<'a>(
        &self,
        role: &str,
        snapshot: &'a Snapshot,
    ) -> Result<(&'a MetaFile, String), Error> {
        let file = role_file(role).ok_or_else(|| Error::RoleName {
            role: role.to_owned(),
        })?;
        if let Some(meta) = snapshot.meta.get(&format!("{role}.json")) {
            return Ok((meta, self.versioned(meta, &file)));
        }
        let legacy = snapshot.meta.get(&format!("{LEGACY}{role}.json"));
        // Without a usable version, the digest is all that ties the role to the snapshot.
        match legacy.filter(|meta| self.tolerant() && meta.hashes.is_some()) {
            Some(meta) => Ok((meta, format!("{}{LEGACY}{file}", self.metadata_url))),
            None => Err(Error::NotInSnapshot {
                role: role.to_owned(),
            }),
        }
    }

    fn versioned(&self, meta: &MetaFile, file: &str) -> String {
        if self.root.consistent_snapshot {
            format!("{}{}.{file}", self.metadata_url, meta.version)
        } else {
            format!("{}{file}", self.metadata_url)
        }
    }

    /// The stored metadata of a role, if there is some and the role's present keys signed it.
    fn stored<T: Kind>(
        &self,
        role: &str,
        authority: &Authority<'_>,
    ) -> Result<Option<(T, Vec<u8>)>, Error> {
        let Some(bytes) = self.store.read(role)? else {
            return Ok(None);
        };
        // Keys that have been replaced take what they signed with them: this is how a repository
        // recovers from versions that somebody else made too high.
        Ok(verified(role, &bytes, authority).ok().map(|t| (t, bytes)))
    }

    /// Whether stored metadata is what `meta` announces, and fresh.
    fn is_current<T: Kind>(&self, stored: &T, meta: &MetaFile, bytes: &[u8]) -> bool {
        stored.version() == meta.version.get()
            && meta.describes(bytes)
            && stored.expires() > self.options.start_time
    }

    /// Fetches metadata that other metadata has announced.
    fn announced(
        &self,
        role: &str,
        meta: &MetaFile,
        url: &str,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let bytes = self.fetch(url, meta.length.map_or(limit, |length| length.min(limit)))?;
        if meta.describes(&bytes) {
            Ok(bytes)
        } else {
            Err(Error::Announced {
                role: role.to_owned(),
            })
        }
    }

    fn fetch(&self, url: &str, limit: u64) -> Result<Vec<u8>, Error> {
        fetch(&*self.transport, &self.options.limits, url, limit)
    }

    fn fresh<T: Kind>(&self, role: &str, metadata: &T) -> Result<(), Error> {
        if metadata.expires() > self.options.start_time {
            return Ok(());
        }
        Err(Error::Expired {
            role: role.to_owned(),
            at: metadata.expires(),
        })
    }
}

/// Whether a snapshot is of the older layout: it lists delegated roles under `delegations/` only.
fn is_legacy(snapshot: &Snapshot) -> bool {
    snapshot.meta.keys().any(|file| {
        file.strip_prefix(LEGACY)
            .is_some_and(|standard| !snapshot.meta.contains_key(standard))
    })
}

fn verified<T: Kind>(role: &str, bytes: &[u8], authority: &Authority<'_>) -> Result<T, Error> {
    Unverified::parse(bytes)
        .and_then(|metadata| metadata.verify(std::slice::from_ref(authority)))
        .map_err(not_acceptable(role))
}

fn not_acceptable(role: &str) -> impl FnOnce(MetadataError) -> Error {
    |source| Error::Metadata {
        role: role.to_owned(),
        source,
    }
}

fn same_version(role: &str, expected: u64, found: u64) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Version {
        role: role.to_owned(),
        expected,
        found,
    })
}

fn not_older(role: &str, trusted: u64, offered: u64) -> Result<(), Error> {
    if offered >= trusted {
        return Ok(());
    }
    Err(Error::Rollback {
        role: role.to_owned(),
        trusted,
        offered,
    })
}
