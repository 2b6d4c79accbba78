//! What a repository directory holds at present.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use avocado_fs::{AtPath, FileLock, LockPlace, PathError, lock_file_beside, remove_file_if_there};
use serde_json::{Map, Value};

use super::WriterError;
use super::signer::{RoleSigners, Signer};
use crate::metadata::{
    MetadataFile, MetadataKind, RoleAuthority, RoleKeys, RootMetadata, SnapshotMetadata,
    TargetsMetadata, TimestampMetadata, UnverifiedMetadata,
};
use crate::metadata_error::MetadataError;

/// Where things are.
#[derive(Debug, Clone)]
pub(super) struct RepositoryLayout {
    pub(super) root: PathBuf,
    pub(super) metadata: PathBuf,
    pub(super) delegations: PathBuf,
    pub(super) targets: PathBuf,
}

impl RepositoryLayout {
    pub(super) fn new(directory: &Path) -> Self {
        let metadata = directory.join("metadata");
        RepositoryLayout {
            root: directory.to_owned(),
            delegations: metadata.join("delegations"),
            targets: directory.join("targets"),
            metadata,
        }
    }

    /// Keeps other writers out. The directory is there for others to read, so it cannot carry the
    /// lock; only where nothing can be written beside it, it does.
    pub(super) fn lock(&self) -> Result<FileLock, PathError> {
        match LockPlace::file(&lock_file_beside(&self.root)).lock() {
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
                ) =>
            {
                LockPlace::directory(&self.root).lock()
            }
            lock => lock,
        }
    }

    /// A version of `file` for now: higher than every one written before. It is also no lower than
    /// the seconds of the clock, so that a repository that was deleted and published anew goes
    /// on, for its readers, from where the old one was.
    pub(super) fn next(&self, file: &str, now: jiff::Timestamp) -> Result<u64, WriterError> {
        let highest = self.highest(file)?;
        Ok(above(highest, now))
    }

    /// The highest version of `<version>.<file>` that was ever written, shown to readers or not;
    /// 0 where there is none.
    pub(super) fn highest(&self, file: &str) -> Result<u64, WriterError> {
        let mut highest = 0;
        if !self.metadata.exists() {
            return Ok(highest);
        }
        for entry in fs::read_dir(&self.metadata).at("read", &self.metadata)? {
            let name = entry.at("read", &self.metadata)?.file_name();
            let name = name.to_string_lossy();
            if let Some((version, rest)) = split_version(&name)
                && rest == file
            {
                highest = highest.max(version);
            }
        }
        Ok(highest)
    }
}

/// The version that follows `version` now.
pub(super) fn above(version: u64, now: jiff::Timestamp) -> u64 {
    let clock = u64::try_from(now.as_second()).unwrap_or(0);
    version.saturating_add(1).max(clock)
}

/// `3.targets.json` is version 3 of `targets.json`.
pub(super) fn split_version(name: &str) -> Option<(u64, &str)> {
    let (version, file) = name.split_once('.')?;
    Some((version.parse().ok()?, file))
}

/// Verified metadata with the bytes it was read from.
pub(super) struct VerifiedMetadata<T> {
    pub(super) content: T,
    pub(super) bytes: Vec<u8>,
}

impl<T: MetadataKind> VerifiedMetadata<T> {
    fn read(path: &Path, authority: &RoleAuthority<'_>) -> Result<Self, WriterError> {
        let bytes = fs::read(path).at("read", path)?;
        let content = UnverifiedMetadata::parse(&bytes)
            .and_then(|metadata| metadata.verify(std::slice::from_ref(authority)))
            .map_err(|source| damaged(path, source))?;
        Ok(VerifiedMetadata { content, bytes })
    }

    /// Reads metadata that other metadata describes.
    fn announced(
        layout: &RepositoryLayout,
        file: &str,
        meta: Option<&MetadataFile>,
        authority: &RoleAuthority<'_>,
    ) -> Result<Self, WriterError> {
        let inconsistent = || WriterError::Inconsistent {
            path: layout.metadata.join(file),
        };
        let meta = meta.ok_or_else(inconsistent)?;
        let signed: Self =
            VerifiedMetadata::read(&layout.metadata.join(versioned(meta, file)), authority)?;
        if meta.describes(&signed.bytes) && signed.content.version() == meta.version.get() {
            Ok(signed)
        } else {
            Err(inconsistent())
        }
    }

    /// The part `signed.<key>` as it was written.
    pub(super) fn raw(&self, key: &str) -> Option<Value> {
        let mut envelope: Value = serde_json::from_slice(&self.bytes).ok()?;
        Some(envelope.get_mut("signed")?.get_mut(key)?.take())
    }
}

fn versioned(meta: &MetadataFile, file: &str) -> String {
    format!("{}.{file}", meta.version)
}

fn damaged(path: &Path, source: MetadataError) -> WriterError {
    WriterError::Damaged {
        path: path.to_owned(),
        source,
    }
}

/// The newest root in the directory, once it is known to be of these keys alone.
pub(super) fn root(
    layout: &RepositoryLayout,
    signers: &RoleSigners<'_>,
) -> Result<Option<VerifiedMetadata<RootMetadata>>, WriterError> {
    let version = layout.highest("root.json")?;
    if version == 0 {
        return Ok(None);
    }
    let path = layout.metadata.join(format!("{version}.root.json"));
    let bytes = fs::read(&path).at("read", &path)?;
    let content = UnverifiedMetadata::parse(&bytes)
        .and_then(|metadata| metadata.verify_root(None))
        .map_err(|source| damaged(&path, source))?;
    let roles = &content.roles;
    for (role, signer) in [
        (&roles.root, signers.root),
        (&roles.timestamp, signers.timestamp),
        (&roles.snapshot, signers.snapshot),
        (&roles.targets, signers.targets),
    ] {
        if is_of(role, signer)? {
            continue;
        }
        return Err(WriterError::OtherKey {
            directory: layout.root.clone(),
        });
    }
    Ok(Some(VerifiedMetadata { content, bytes }))
}

/// Whether the signer speaks for the role, alone.
fn is_of(role: &RoleKeys, signer: &dyn Signer) -> Result<bool, WriterError> {
    let id = signer.public().id()?;
    Ok(role.keyids.iter().eq([&id]) && role.threshold.get() == 1)
}

/// The publication that readers see.
pub(super) struct VisiblePublication {
    pub(super) timestamp: VerifiedMetadata<TimestampMetadata>,
    pub(super) snapshot: VerifiedMetadata<SnapshotMetadata>,
    pub(super) targets: VerifiedMetadata<TargetsMetadata>,
}

impl VisiblePublication {
    /// Reads what readers see; none before the first publication is complete.
    pub(super) fn read(
        layout: &RepositoryLayout,
        root: &RootMetadata,
    ) -> Result<Option<Self>, WriterError> {
        let path = layout.metadata.join("timestamp.json");
        if !path.exists() {
            return Ok(None);
        }
        let roles = &root.roles;
        let timestamp: VerifiedMetadata<TimestampMetadata> =
            VerifiedMetadata::read(&path, &root.authority(&roles.timestamp))?;
        let snapshot: VerifiedMetadata<SnapshotMetadata> = VerifiedMetadata::announced(
            layout,
            "snapshot.json",
            Some(timestamp.content.snapshot()),
            &root.authority(&roles.snapshot),
        )?;
        let targets = VerifiedMetadata::announced(
            layout,
            "targets.json",
            snapshot.content.meta.get("targets.json"),
            &root.authority(&roles.targets),
        )?;
        Ok(Some(VisiblePublication {
            timestamp,
            snapshot,
            targets,
        }))
    }

    /// The metadata of a delegated role; none where nothing is delegated to it.
    pub(super) fn role(
        &self,
        layout: &RepositoryLayout,
        role: &str,
    ) -> Result<Option<VerifiedMetadata<TargetsMetadata>>, WriterError> {
        let delegations = self.targets.content.delegations.as_ref();
        let found = delegations.and_then(|d| Some((d, d.roles.iter().find(|r| r.name == role)?)));
        let Some((delegations, delegated)) = found else {
            return Ok(None);
        };
        let authority = RoleAuthority {
            keys: &delegations.keys,
            role: &delegated.keys,
        };
        let file = format!("{role}.json");
        let meta = self.snapshot.content.meta.get(&file);
        VerifiedMetadata::announced(layout, &file, meta, &authority).map(Some)
    }

    /// What the snapshot says about each file, as it was written.
    pub(super) fn snapshot_meta(&self) -> Map<String, Value> {
        match self.snapshot.raw("meta") {
            Some(Value::Object(meta)) => meta,
            _ => Map::new(),
        }
    }
}

/// What one publication needs: metadata files below `metadata`, files below `targets`.
#[derive(Default)]
pub(super) struct NeededFiles {
    pub(super) metadata: BTreeSet<String>,
    pub(super) targets: BTreeSet<String>,
}

impl NeededFiles {
    /// Adds everything that the publication consists of.
    pub(super) fn add(
        &mut self,
        visible: &VisiblePublication,
        layout: &RepositoryLayout,
    ) -> Result<(), WriterError> {
        let snapshot = visible.timestamp.content.snapshot();
        self.metadata.insert(versioned(snapshot, "snapshot.json"));
        for (file, meta) in &visible.snapshot.content.meta {
            if !file.contains('/') {
                self.metadata.insert(versioned(meta, file));
            }
        }
        let delegations = visible.targets.content.delegations.iter();
        for role in delegations.flat_map(|d| &d.roles) {
            let Some(targets) = visible.role(layout, &role.name)? else {
                continue;
            };
            for (name, target) in &targets.content.targets {
                self.targets.insert(name.clone());
                if let Some(prefix) = target.hashes.file_prefix() {
                    self.targets.insert(format!("{prefix}.{name}"));
                }
            }
        }
        Ok(())
    }

    /// Removes what no publication needs. Readers do not see any of it.
    pub(super) fn remove_the_rest(&self, layout: &RepositoryLayout) -> Result<(), WriterError> {
        for entry in fs::read_dir(&layout.targets).at("read", &layout.targets)? {
            let entry = entry.at("read", &layout.targets)?;
            let name = entry.file_name();
            let wanted = name.to_str().is_some_and(|n| self.targets.contains(n));
            if !wanted && entry.file_type().at("look at", &entry.path())?.is_file() {
                remove_file_if_there(&entry.path())?;
            }
        }
        // Roots stay: devices walk from one to the next.
        for entry in fs::read_dir(&layout.metadata).at("read", &layout.metadata)? {
            let entry = entry.at("read", &layout.metadata)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let old = split_version(name).is_some_and(|(_, file)| file != "root.json");
            if old && !self.metadata.contains(name) {
                remove_file_if_there(&entry.path())?;
            }
        }
        Ok(())
    }
}
