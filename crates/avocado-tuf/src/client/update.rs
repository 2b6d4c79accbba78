//! The client workflow of the specification: newer roots one version at a time, then timestamp,
//! snapshot and targets, each checked against what was trusted before.

use super::retry::fetch;
use super::{RefreshedMetadata, TufClient, TufError};
use crate::metadata::{
    MetadataFile, MetadataKind, RoleAuthority, SnapshotMetadata, TargetsMetadata,
    TimestampMetadata, UnverifiedMetadata,
};
use crate::metadata_error::MetadataError;
use crate::names::role_file;

/// Where the files of delegated roles are in the older layout.
const LEGACY: &str = "delegations/";

impl TufClient {
    pub(super) fn update(&mut self) -> Result<RefreshedMetadata, TufError> {
        self.update_root()?;
        let (timestamp, unsettled) = self.update_timestamp()?;
        let snapshot = self.update_snapshot(&timestamp, unsettled)?;
        let authority = self.root.authority(&self.root.roles.targets);
        let targets = self.role("targets", &snapshot, &authority)?;
        self.remember(&timestamp)?;
        // Older versions of this program look for it here.
        self.store.write_root(&self.root_bytes, &self.anchor)?;
        Ok(RefreshedMetadata { snapshot, targets })
    }

    /// Whether the repository is of the older layout, and taken as such.
    pub(super) fn relaxes(&self, snapshot: &SnapshotMetadata) -> bool {
        self.tolerant() && is_legacy(snapshot)
    }

    /// Whether the repository may be of the older layout, and that is acceptable.
    fn tolerant(&self) -> bool {
        self.options.relax_legacy && !self.root.consistent_snapshot
    }

    fn update_root(&mut self) -> Result<(), TufError> {
        let role = "root";
        for _ in 0..self.options.limits.root_rotations {
            let expected = self.root.version.saturating_add(1);
            let url = self.metadata_url.join(&format!("{expected}.root.json"));
            let bytes = match self.fetch(&url, self.options.limits.root) {
                Err(TufError::Fetch { source, .. }) if source.is_absent() => break,
                bytes => bytes?,
            };
            let root = UnverifiedMetadata::parse(&bytes)
                .and_then(|root| root.verify_root(Some(&self.root)))
                .map_err(not_acceptable(role))?;
            same_version(role, expected.get(), root.version())?;
            self.roots.write_root(&bytes, &self.anchor)?;
            self.root = root;
            self.root_bytes = bytes;
        }
        // The keys of this root say which trusted time counts.
        self.now = self.judging_time()?;
        // Only the last root has to be fresh: the others are steps on the way. Where the clock alone
        // would have it so, the next timestamp may take back what made it look expired.
        if self.root.expires > self.options.start_time {
            return Ok(());
        }
        self.fresh(role, &self.root)
    }

    /// The timestamp to go by. The bytes are returned with it where it is of the trusted version
    /// but differs, which only the older layout may do: then it is not stored yet.
    fn update_timestamp(&mut self) -> Result<(TimestampMetadata, Option<Vec<u8>>), TufError> {
        let role = "timestamp";
        let authority = self.root.authority(&self.root.roles.timestamp);
        let trusted: Option<(TimestampMetadata, _)> = self.stored(role, &authority)?;

        let url = self.metadata_url.join("timestamp.json");
        let bytes = self.fetch(&url, self.options.limits.timestamp)?;
        let offered: TimestampMetadata = verified(role, &bytes, &authority)?;

        let mut unsettled = false;
        let corrected = match &trusted {
            Some((trusted, _)) => self.corrected(trusted, &offered)?,
            None => None,
        };
        self.now = corrected.unwrap_or(self.now);
        self.fresh("root", &self.root)?;
        if let Some((trusted, trusted_bytes)) = trusted {
            not_older(role, trusted.version(), offered.version())?;
            if offered.version == trusted.version {
                if bytes == trusted_bytes || !self.tolerant() {
                    self.fresh(role, &trusted)?;
                    return Ok((trusted, None));
                }
                if offered.expires < trusted.expires {
                    return Err(TufError::Changed {
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
        if let Some(time) = corrected {
            self.write_time(time)?;
        }
        self.store.write(role, &bytes)?;
        Ok((offered, None))
    }

    fn update_snapshot(
        &self,
        timestamp: &TimestampMetadata,
        unsettled: Option<Vec<u8>>,
    ) -> Result<SnapshotMetadata, TufError> {
        let role = "snapshot";
        let authority = self.root.authority(&self.root.roles.snapshot);
        let meta = timestamp.snapshot();
        let trusted: Option<(SnapshotMetadata, _)> = self.stored(role, &authority)?;

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
            return Err(TufError::Changed {
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
                None => return Err(TufError::Vanished { file: file.clone() }),
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
    /// It is verified for this delegation each time, whichever other role delegates to it.
    pub(super) fn role(
        &self,
        role: &str,
        snapshot: &SnapshotMetadata,
        authority: &RoleAuthority<'_>,
    ) -> Result<TargetsMetadata, TufError> {
        let (meta, url) = self.locate(role, snapshot)?;
        if let Some((targets, bytes)) = self.stored::<TargetsMetadata>(role, authority)?
            && self.is_current(&targets, meta, &bytes)
        {
            return Ok(targets);
        }
        let bytes = self.announced(role, meta, &url, self.options.limits.targets)?;
        let targets: TargetsMetadata = verified(role, &bytes, authority)?;
        same_version(role, meta.version.get(), targets.version())?;
        self.fresh(role, &targets)?;
        self.store.write(role, &bytes)?;
        Ok(targets)
    }

    /// What the snapshot says about a role and the URL of its metadata.
    fn locate<'a>(
        &self,
        role: &str,
        snapshot: &'a SnapshotMetadata,
    ) -> Result<(&'a MetadataFile, String), TufError> {
        let file = role_file(role).ok_or_else(|| TufError::RoleName {
            role: role.to_owned(),
        })?;
        let relaxes = self.relaxes(snapshot);
        let standard = snapshot.meta.get(&format!("{role}.json"));
        let older = || snapshot.meta.get(&format!("{LEGACY}{role}.json"));
        let (meta, url) = match standard {
            Some(meta) => (meta, self.versioned(meta, &file)),
            None => match older().filter(|_| relaxes) {
                Some(meta) => (meta, self.metadata_url.join(&format!("{LEGACY}{file}"))),
                None => {
                    return Err(TufError::NotInSnapshot {
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

    fn versioned(&self, meta: &MetadataFile, file: &str) -> String {
        if self.root.consistent_snapshot {
            self.metadata_url.join(&format!("{}.{file}", meta.version))
        } else {
            self.metadata_url.join(file)
        }
    }

    /// The stored metadata of a role, if there is some and the role's present keys signed it.
    fn stored<T: MetadataKind>(
        &self,
        role: &str,
        authority: &RoleAuthority<'_>,
    ) -> Result<Option<(T, Vec<u8>)>, TufError> {
        let Some(bytes) = self.store.read(role)? else {
            return Ok(None);
        };
        // Keys that have been replaced take what they signed with them: this is how a repository
        // recovers from versions that another holder of the old keys made too high.
        Ok(verified(role, &bytes, authority).ok().map(|t| (t, bytes)))
    }

    /// Whether stored metadata is what `meta` announces, and fresh.
    fn is_current<T: MetadataKind>(&self, stored: &T, meta: &MetadataFile, bytes: &[u8]) -> bool {
        stored.version() == meta.version.get()
            && meta.describes(bytes)
            && stored.expires() > self.now
    }

    /// Fetches metadata that other metadata has announced.
    fn announced(
        &self,
        role: &str,
        meta: &MetadataFile,
        url: &str,
        limit: u64,
    ) -> Result<Vec<u8>, TufError> {
        // Without a digest a server without keys decides what it is up to this length.
        let limit = match meta.hashes {
            Some(_) => limit,
            None => limit.min(self.options.limits.without_digest),
        };
        let bytes = self.fetch(url, meta.length.map_or(limit, |length| length.min(limit)))?;
        if meta.describes(&bytes) {
            Ok(bytes)
        } else {
            Err(TufError::Announced {
                role: role.to_owned(),
            })
        }
    }

    fn fetch(&self, url: &str, limit: u64) -> Result<Vec<u8>, TufError> {
        fetch(&*self.transport, &self.options.limits, url, limit)
    }

    fn fresh<T: MetadataKind>(&self, role: &str, metadata: &T) -> Result<(), TufError> {
        if metadata.expires() > self.now {
            return Ok(());
        }
        let clock = self.options.start_time;
        Err(TufError::Expired {
            role: role.to_owned(),
            at: metadata.expires(),
            clock,
            remembered: (self.now > clock).then_some(self.now),
        })
    }
}

/// Whether a snapshot is of the older layout: it lists delegated roles under `delegations/` only.
fn is_legacy(snapshot: &SnapshotMetadata) -> bool {
    snapshot.meta.keys().any(|file| {
        file.strip_prefix(LEGACY)
            .is_some_and(|standard| !snapshot.meta.contains_key(standard))
    })
}

fn verified<T: MetadataKind>(
    role: &str,
    bytes: &[u8],
    authority: &RoleAuthority<'_>,
) -> Result<T, TufError> {
    UnverifiedMetadata::parse(bytes)
        .and_then(|metadata| metadata.verify(std::slice::from_ref(authority)))
        .map_err(not_acceptable(role))
}

fn not_acceptable(role: &str) -> impl FnOnce(MetadataError) -> TufError {
    |source| TufError::Metadata {
        role: role.to_owned(),
        source,
    }
}

/// In the older layout versions say nothing: only digests tie metadata to what announces it.
fn bound(role: &str, meta: &MetadataFile) -> Result<(), TufError> {
    if meta.hashes.is_some() {
        return Ok(());
    }
    Err(TufError::Unbound {
        role: role.to_owned(),
    })
}

fn same_version(role: &str, expected: u64, found: u64) -> Result<(), TufError> {
    if expected == found {
        return Ok(());
    }
    Err(TufError::Version {
        role: role.to_owned(),
        expected,
        found,
    })
}

fn not_older(role: &str, trusted: u64, offered: u64) -> Result<(), TufError> {
    if offered >= trusted {
        return Ok(());
    }
    Err(TufError::Rollback {
        role: role.to_owned(),
        trusted,
        offered,
    })
}
