//! The writer: a directory that any TUF client can be pointed at.
//!
//! ```text
//! metadata/  1.root.json root.json  N.targets.json targets.json  N.<role>.json <role>.json
//!            N.snapshot.json snapshot.json  timestamp.json  delegations/<role>.json
//! targets/   <sha256>.<name> <name>
//! ```
//!
//! The top-level targets delegate to one role per runtime, whose name stays the same from
//! publication to publication. The unversioned names, the directory `delegations` and its entry in
//! the snapshot are for devices with an older client; all of them are further names of the
//! versioned files.
//!
//! A publication becomes visible at once, when `timestamp.json` is renamed into place after
//! everything else is on disk. A version that was written is never used again, shown or not, so
//! an interrupted publication is simply repeated. Apart from the root's, versions start at the
//! clock's seconds: a repository that was deleted and published anew is then not taken for an
//! attempt to go back. What the publication before the last needed is
//! removed after that, what the last one needed stays for the readers that are at it.
//!
//! Sources are hard-linked: a program that replaces a published file does it by rename, never by
//! writing into it.

mod compose;
mod error;
mod kinds;
mod signer;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use avocado_fs::{
    AtPath, Durability, TemporaryName, WriteOptions, create_directories, link_or_copy, same_file,
    sync_directory,
};
use avocado_manifest::{Digest, Name};
use jiff::Timestamp;
use serde_json::Value;

use crate::metadata::{MetadataKind, RootMetadata};
use compose::MetadataLifetime;
pub use error::WriterError;
pub use kinds::TargetKind;
pub use signer::{RoleSigners, Signer};
use state::{NeededFiles, RepositoryLayout, VerifiedMetadata, VisiblePublication};

/// Files and the repository that they go into.
#[derive(Debug)]
pub struct Publication<'a> {
    /// The repository. Created where it is missing. Its `targets` directory is the writer's: what
    /// no publication needs is removed from it.
    pub directory: &'a Path,
    /// Who signs.
    pub signers: RoleSigners<'a>,
    /// The role that the files belong to: `runtime-<runtime name>`. Roles of other runtimes in the
    /// same repository stay, after this one.
    pub role: &'a str,
    /// The files. They replace what the role had before.
    pub targets: &'a [PublicationTarget<'a>],
    /// The time of publication.
    pub now: Timestamp,
}

/// A file to publish.
#[derive(Debug, Clone)]
pub struct PublicationTarget<'a> {
    /// Its name in the repository: one plain path segment.
    pub name: String,
    /// The file.
    pub source: &'a Path,
    /// Its SHA-256. It is not computed again.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
}

/// The versions that a publication wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedVersions {
    /// Of the root; the same as before unless it had to be renewed.
    pub root_version: u64,
    /// Of the top-level targets.
    pub targets_version: u64,
    /// Of the role.
    pub role_version: u64,
    /// Of the snapshot.
    pub snapshot_version: u64,
    /// Of the timestamp.
    pub timestamp_version: u64,
}

/// A root of version 1 for these signers: a trust anchor. The `metadata/root.json` of a repository is the
/// one that its devices should have; this is for repositories that do not exist yet.
pub fn root<'a>(
    signers: impl Into<RoleSigners<'a>>,
    now: Timestamp,
) -> Result<Vec<u8>, WriterError> {
    compose::root(1, &signers.into(), now)
}

/// The root that devices of this repository trust: the one in force, made if there is none yet
/// and renewed if it would expire soon. A device gets these bytes as its trust anchor.
pub fn anchor<'a>(
    directory: &Path,
    signers: impl Into<RoleSigners<'a>>,
    now: Timestamp,
) -> Result<Vec<u8>, WriterError> {
    let layout = RepositoryLayout::new(directory);
    create_directories(&layout.metadata, 0o755)?;
    let _lock = layout.lock()?;
    Ok(ensure_root(&layout, &signers.into(), now)?.bytes)
}

/// Publishes the files of one role.
pub fn publish(publication: &Publication<'_>) -> Result<PublishedVersions, WriterError> {
    let Publication {
        directory,
        ref signers,
        role,
        now,
        ..
    } = *publication;
    let described = check(publication)?;
    for target in publication.targets {
        let found = fs::metadata(target.source)
            .at("look at", target.source)?
            .len();
        if found != target.length {
            return Err(WriterError::Length {
                path: target.source.to_owned(),
                expected: target.length,
                found,
            });
        }
    }

    let layout = RepositoryLayout::new(directory);
    for directory in [&layout.delegations, &layout.targets] {
        create_directories(directory, 0o755)?;
    }
    let _lock = layout.lock()?;
    let root = ensure_root(&layout, signers, now)?.content;
    let before = VisiblePublication::read(&layout, &root)?;

    for target in publication.targets {
        let name = format!("{}.{}", target.digest, target.name);
        link(target.source, &layout.targets, &name)?;
    }

    let role_file = format!("{role}.json");
    let role_version = layout.next(&role_file, now)?;
    let role_bytes = compose::targets(role_version, &described, signers.delegated, now)?;

    let targets_version = layout.next("targets.json", now)?;
    let others = before.as_ref().and_then(|b| b.targets.raw("delegations"));
    let targets_bytes = compose::delegator(targets_version, role, others.as_ref(), signers, now)?;

    let mut meta = before
        .as_ref()
        .map(VisiblePublication::snapshot_meta)
        .unwrap_or_default();
    let role_meta = compose::meta(role_version, &role_bytes);
    meta.insert(format!("delegations/{role_file}"), role_meta.clone());
    meta.insert(role_file.clone(), role_meta);
    meta.insert(
        "targets.json".to_owned(),
        compose::meta(targets_version, &targets_bytes),
    );
    let snapshot_version = layout.next("snapshot.json", now)?;
    let snapshot_bytes = compose::snapshot(snapshot_version, &meta, signers.snapshot, now)?;

    let written = [
        (role_version, role_file.as_str(), &role_bytes),
        (targets_version, "targets.json", &targets_bytes),
        (snapshot_version, "snapshot.json", &snapshot_bytes),
    ];
    for (version, file, bytes) in written {
        write(&layout.metadata, &format!("{version}.{file}"), bytes)?;
    }
    sync(&[&layout.targets, &layout.metadata])?;

    // Only clients without consistent snapshots look at these names. For them the switch is not
    // atomic, but it is short.
    for target in publication.targets {
        let name = format!("{}.{}", target.digest, target.name);
        link(&layout.targets.join(name), &layout.targets, &target.name)?;
    }
    for (version, file, _) in written {
        let versioned = layout.metadata.join(format!("{version}.{file}"));
        link(&versioned, &layout.metadata, file)?;
    }
    link(
        &layout.metadata.join(&role_file),
        &layout.delegations,
        &role_file,
    )?;
    sync(&[&layout.targets, &layout.delegations, &layout.metadata])?;

    let timestamp_version = timestamp_after(before.as_ref(), now);
    let snapshot_meta = compose::meta(snapshot_version, &snapshot_bytes);
    let timestamp = compose::timestamp(timestamp_version, snapshot_meta, signers.timestamp, now)?;
    write(&layout.metadata, "timestamp.json", &timestamp)?;
    sync(&[&layout.metadata])?;

    let mut needs = NeededFiles::default();
    for visible in before
        .into_iter()
        .chain(VisiblePublication::read(&layout, &root)?)
    {
        needs.add(&visible, &layout)?;
    }
    needs.remove_the_rest(&layout)?;
    Ok(PublishedVersions {
        root_version: root.version(),
        targets_version,
        role_version,
        snapshot_version,
        timestamp_version,
    })
}

/// Whether readers already see exactly these files, first of all roles, in metadata that is fresh
/// for a while (a timestamp for more than a day). Writes nothing.
pub fn is_current(publication: &Publication<'_>) -> bool {
    matches!(look(publication), Ok(Some(true)))
}

/// Some verdict, or none where something is missing.
fn look(publication: &Publication<'_>) -> Result<Option<bool>, WriterError> {
    let Publication {
        directory,
        ref signers,
        role,
        now,
        ..
    } = *publication;
    let described = check(publication)?;
    let layout = RepositoryLayout::new(directory);
    let Some(root) = state::root(&layout, signers)? else {
        return Ok(None);
    };
    let Some(visible) = VisiblePublication::read(&layout, &root.content)? else {
        return Ok(None);
    };
    let Some(published) = visible.role(&layout, role)? else {
        return Ok(None);
    };
    let fresh = is_fresh(&root.content, compose::ROOT, now)
        && is_fresh(&visible.targets.content, compose::TARGETS, now)
        && is_fresh(&published.content, compose::TARGETS, now)
        && !is_due(&visible, now);

    let targets = published.raw("targets");
    let described: serde_json::Map<_, _> = described
        .into_iter()
        .map(|(name, target)| (name.to_owned(), target))
        .collect();
    let same = targets == Some(Value::Object(described));
    let first = visible
        .targets
        .raw("delegations")
        .and_then(|mut d| Some(d.get_mut("roles")?.get_mut(0)?.take()));
    let first = first == Some(compose::delegation(role, signers.delegated.public())?);

    let there = publication.targets.iter().all(|target| {
        let hashed = format!("{}.{}", target.digest, target.name);
        [&hashed, &target.name].into_iter().all(|name| {
            fs::metadata(layout.targets.join(name)).is_ok_and(|m| m.len() == target.length)
        })
    });
    Ok(Some(fresh && same && first && there))
}

/// Signs the timestamp anew if it has a day or less left, and before it the snapshot if that has
/// two weeks or less left. Returns whether it did.
pub fn renew<'a>(
    directory: &Path,
    signers: impl Into<RoleSigners<'a>>,
    now: Timestamp,
) -> Result<bool, WriterError> {
    let signers = &signers.into();
    let layout = RepositoryLayout::new(directory);
    let empty = || WriterError::Empty {
        directory: directory.to_owned(),
    };
    if !layout.metadata.exists() {
        return Err(empty());
    }
    let _lock = layout.lock()?;
    let root = state::root(&layout, signers)?.ok_or_else(empty)?;
    let visible = VisiblePublication::read(&layout, &root.content)?.ok_or_else(empty)?;
    if !is_due(&visible, now) {
        return Ok(false);
    }

    let snapshot = if is_fresh(&visible.snapshot.content, compose::SNAPSHOT, now) {
        compose::meta(visible.snapshot.content.version(), &visible.snapshot.bytes)
    } else {
        let version = layout.next("snapshot.json", now)?;
        let bytes = compose::snapshot(version, &visible.snapshot_meta(), signers.snapshot, now)?;
        let file = format!("{version}.snapshot.json");
        write(&layout.metadata, &file, &bytes)?;
        link(
            &layout.metadata.join(file),
            &layout.metadata,
            "snapshot.json",
        )?;
        sync(&[&layout.metadata])?;
        compose::meta(version, &bytes)
    };
    let version = timestamp_after(Some(&visible), now);
    let timestamp = compose::timestamp(version, snapshot, signers.timestamp, now)?;
    write(&layout.metadata, "timestamp.json", &timestamp)?;
    sync(&[&layout.metadata])?;
    Ok(true)
}

fn is_fresh<T: MetadataKind>(metadata: &T, lifetime: MetadataLifetime, now: Timestamp) -> bool {
    lifetime.is_fresh(metadata.expires(), now)
}

/// The version of the timestamp that follows what readers see.
fn timestamp_after(visible: Option<&VisiblePublication>, now: Timestamp) -> u64 {
    state::above(visible.map_or(0, |v| v.timestamp.content.version()), now)
}

/// Whether the timestamp or the snapshot should be signed anew.
fn is_due(visible: &VisiblePublication, now: Timestamp) -> bool {
    !is_fresh(&visible.timestamp.content, compose::TIMESTAMP, now)
        || !is_fresh(&visible.snapshot.content, compose::SNAPSHOT, now)
}

/// Checks the names and describes the targets as metadata does.
fn check<'a>(publication: &'a Publication<'_>) -> Result<BTreeMap<&'a str, Value>, WriterError> {
    let role: Name = publication.role.parse()?;
    // Such a role's file would be a top-level one's, or look like a version of another's.
    let taken = ["root", "timestamp", "snapshot", "targets"].contains(&role.as_str());
    if taken || state::split_version(&format!("{role}.json")).is_some() {
        return Err(WriterError::Role(role.into()));
    }
    let mut described = BTreeMap::new();
    for target in publication.targets {
        let name: Name = target.name.parse()?;
        if TargetKind::of(name.as_str()).is_none() {
            return Err(WriterError::Uncovered(name.into()));
        }
        let value = compose::target(target.length, target.digest);
        if described.insert(target.name.as_str(), value).is_some() {
            return Err(WriterError::Duplicate(name.into()));
        }
    }
    Ok(described)
}

/// The root that is in force, renewed if it would expire soon.
fn ensure_root(
    layout: &RepositoryLayout,
    signers: &RoleSigners<'_>,
    now: Timestamp,
) -> Result<VerifiedMetadata<RootMetadata>, WriterError> {
    let old = state::root(layout, signers)?;
    let version = match &old {
        Some(root) if is_fresh(&root.content, compose::ROOT, now) => root.content.version(),
        _ => {
            let version = old.as_ref().map_or(0, |root| root.content.version()) + 1;
            let bytes = compose::root(version, signers, now)?;
            write(&layout.metadata, &format!("{version}.root.json"), &bytes)?;
            version
        }
    };
    let versioned = layout.metadata.join(format!("{version}.root.json"));
    link(&versioned, &layout.metadata, "root.json")?;
    sync(&[&layout.metadata])?;
    state::root(layout, signers)?.ok_or_else(|| WriterError::Empty {
        directory: layout.root.clone(),
    })
}

/// Under which name a file is made, in each directory, before it takes its place: a killed
/// process leaves one file there at most, and the next publication removes it.
const TEMPORARY: &str = ".new";

fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), WriterError> {
    let options = WriteOptions::new()
        .mode(0o644)
        .temporary(TemporaryName::Shared(TEMPORARY))
        // Several go to the disk together, before the first of them is needed.
        .durability(Durability::Content);
    Ok(options.write(&directory.join(name), bytes)?)
}

fn link(source: &Path, directory: &Path, name: &str) -> Result<(), WriterError> {
    let destination = directory.join(name);
    if same_file(source, &destination) {
        return Ok(());
    }
    Ok(link_or_copy(source, &destination, TEMPORARY)?)
}

fn sync(directories: &[&Path]) -> Result<(), WriterError> {
    for directory in directories {
        sync_directory(directory)?;
    }
    Ok(())
}
