//! The client workflow of the specification: newer roots one version at a time, then timestamp,
//! snapshot and targets, each checked against what was trusted before.

use super::retry::fetch;
use super::{Client, Current, Error};
use crate::metadata::{
    Authority, Kind, MetaFile, MetadataError, Snapshot, Targets, Timestamp, Unverified,
};
use crate::names::role_file;
use crate::transport::TransportError;

/// Where the files of delegated roles are in the older layout.
const LEGACY: &str = "delegations/";

impl Client {
    pub(super) fn update(&mut self) -> Result<Current, Error> {
        self.update_root()?;
        let (timestamp, unsettled) = self.update_timestamp()?;
        let snapshot = self.update_snapshot(&timestamp, unsettled)?;
        let authority = self.root.authority(&self.root.roles.targets);
        let targets = self.role("targets", &snapshot, &authority)?;
        self.remember(&timestamp)?;
        Ok(Current { snapshot, targets })
    }

    /// Whether the repository is of the older layout, and taken as such.
    pub(super) fn relaxes(&self, snapshot: &Snapshot) -> bool {
        self.tolerant() && is_legacy(snapshot)
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
        // The keys of this root say which trusted time counts.
        self.now = self.judging_time()?;
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

        if self.relaxes(&offered) {
            bound(role, meta)?;
        }
        let was_legacy = trusted.as_ref().is_some_and(|(s, _)| is_legacy(s));
        let tolerant = self.tolerant() && (was_legacy || is_legacy(&offered));
        if unsettled.is_some() && !tolerant {
            return Err(Error::Changed {
                role: "timestamp".to_owned(),
                version: timestamp.version(),
            });
        }
        let mut vanished = Vec::new();
        for (file, old) in trusted.iter().flat_map(|(trusted, _)| &trusted.meta) {
            match offered.meta.get(file) {
                Some(new) => not_older(
                    file.strip_suffix(".json").unwrap_or(file),
                    old.version.get(),
                    new.version.get(),
                )?,
                None if tolerant && was_legacy && file.starts_with(LEGACY) => {
                    let role = file.strip_prefix(LEGACY).unwrap_or(file);
                    vanished.push(role.strip_suffix(".json").unwrap_or(role).to_owned());
                }
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
        // Each publication of the older layout leaves a role behind.
        for role in vanished {
            self.store.remove(&role)?;
        }
        Ok(offered)
    }

    /// The targets metadata of a role that the snapshot lists, from the store or the repository.
    /// It is verified for this delegation each time, whoever else delegates to it.
    pub(super) fn role(
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
        let relaxes = self.relaxes(snapshot);
        let standard = snapshot.meta.get(&format!("{role}.json"));
        let older = || snapshot.meta.get(&format!("{LEGACY}{role}.json"));
        let (meta, url) = match standard {
            Some(meta) => (meta, self.versioned(meta, &file)),
            None => match older().filter(|_| relaxes) {
                Some(meta) => (meta, format!("{}{LEGACY}{file}", self.metadata_url)),
                None => {
                    return Err(Error::NotInSnapshot {
                        role: role.to_owned(),
                    });
                }
            },
        };
        if relaxes {
            bound(role, meta)?;
        }
        Ok((meta, url))
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
            && stored.expires() > self.now
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
        if metadata.expires() > self.now {
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

/// In the older layout versions say nothing: only digests tie metadata to what announces it.
fn bound(role: &str, meta: &MetaFile) -> Result<(), Error> {
    if meta.hashes.is_some() {
        return Ok(());
    }
    Err(Error::Unbound {
        role: role.to_owned(),
    })
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
