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
//! Sources are hard-linked: whoever replaces a published file has to do it by rename, never by
//! writing into it.

mod compose;
mod error;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use avocado_manifest::{Digest, Name};
use jiff::Timestamp;
use serde_json::Value;

use crate::files::{self, At};
use crate::keys::SigningKey;
use crate::metadata::Kind;
use compose::Lifetime;
pub use error::WriteError;
use state::{Layout, Needs, Visible};

/// Files and the repository that they go into.
#[derive(Debug)]
pub struct Publication<'a> {
    /// The repository. Created where it is missing. Its `targets` directory is the writer's: what
    /// no publication needs is removed from it.
    pub directory: &'a Path,
    /// The key that signs everything.
    pub key: &'a SigningKey,
    /// The role that the files belong to: `runtime-<runtime name>`. Roles of other runtimes in the
    /// same repository stay, after this one.
    pub role: &'a str,
    /// The files. They replace what the role had before.
    pub targets: &'a [Target<'a>],
    /// The time of publication.
    pub now: Timestamp,
}

/// A file to publish.
#[derive(Debug, Clone)]
pub struct Target<'a> {
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
pub struct Published {
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

/// A root of version 1 for `key`: a trust anchor. The `metadata/root.json` of a repository is the
/// one that its devices should have; this is for repositories that do not exist yet.
pub fn root(key: &SigningKey, now: Timestamp) -> Result<Vec<u8>, WriteError> {
    compose::root(1, key, now)
}

/// The root that devices of this repository trust: the one in force, made if there is none yet
/// and renewed if it would expire soon. A device gets these bytes as its trust anchor.
pub fn anchor(directory: &Path, key: &SigningKey, now: Timestamp) -> Result<Vec<u8>, WriteError> {
    let layout = Layout::new(directory);
    files::create_directory(&layout.metadata, 0o755).at(&layout.metadata)?;
    let _lock = files::lock(&layout.root).at(&layout.root)?;
    ensure_root(&layout, key, now)?;
    let path = layout.metadata.join("root.json");
    Ok(fs::read(&path).at(&path)?)
}

/// Publishes the files of one role.
pub fn publish(publication: &Publication<'_>) -> Result<Published, WriteError> {
    let Publication {
        directory,
        key,
        role,
        now,
        ..
    } = *publication;
    let described = check(publication)?;
    for target in publication.targets {
        let found = fs::metadata(target.source).at(target.source)?.len();
        if found != target.length {
            return Err(WriteError::Length {
                path: target.source.to_owned(),
                expected: target.length,
                found,
            });
        }
    }

    let layout = Layout::new(directory);
    for directory in [&layout.delegations, &layout.targets] {
        files::create_directory(directory, 0o755).at(directory)?;
    }
    let _lock = files::lock(&layout.root).at(&layout.root)?;
    let (root_version, root) = ensure_root(&layout, key, now)?;
    let before = Visible::read(&layout, &root)?;

    for target in publication.targets {
        let name = format!("{}.{}", target.digest, target.name);
        link(target.source, &layout.targets, &name)?;
    }

    let role_file = format!("{role}.json");
    let role_version = layout.next(&role_file, now)?;
    let role_bytes = compose::targets(role_version, &described, key, now)?;

    let targets_version = layout.next("targets.json", now)?;
    let others = before.as_ref().and_then(|b| b.targets.raw("delegations"));
    let targets_bytes = compose::delegator(targets_version, role, others.as_ref(), key, now)?;

    let mut meta = before
        .as_ref()
        .map(Visible::snapshot_meta)
        .unwrap_or_default();
    let role_meta = compose::meta(role_version, &role_bytes);
    meta.insert(format!("delegations/{role_file}"), role_meta.clone());
    meta.insert(role_file.clone(), role_meta);
    meta.insert(
        "targets.json".to_owned(),
        compose::meta(targets_version, &targets_bytes),
    );
    let snapshot_version = layout.next("snapshot.json", now)?;
    let snapshot_bytes = compose::snapshot(snapshot_version, &meta, key, now)?;

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
    let timestamp = compose::timestamp(timestamp_version, snapshot_meta, key, now)?;
    write(&layout.metadata, "timestamp.json", &timestamp)?;
    sync(&[&layout.metadata])?;

    let mut needs = Needs::default();
    for visible in before.into_iter().chain(Visible::read(&layout, &root)?) {
        needs.add(&visible, &layout)?;
    }
    needs.remove_the_rest(&layout)?;
    Ok(Published {
        root_version,
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
fn look(publication: &Publication<'_>) -> Result<Option<bool>, WriteError> {
    let Publication {
        directory,
        key,
        role,
        now,
        ..
    } = *publication;
    let described = check(publication)?;
    let layout = Layout::new(directory);
    let Some(root) = state::root(&layout, key)? else {
        return Ok(None);
    };
    let Some(visible) = Visible::read(&layout, &root.content)? else {
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
    let same = targets == serde_json::to_value(described).ok();
    let first = visible
        .targets
        .raw("delegations")
        .and_then(|mut d| Some(d.get_mut("roles")?.get_mut(0)?.take()));
    let first = first == Some(compose::delegation(role, key));

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
pub fn renew(directory: &Path, key: &SigningKey, now: Timestamp) -> Result<bool, WriteError> {
    let layout = Layout::new(directory);
    let empty = || WriteError::Empty {
        directory: directory.to_owned(),
    };
    if !layout.metadata.exists() {
        return Err(empty());
    }
    let _lock = files::lock(&layout.root).at(&layout.root)?;
    let root = state::root(&layout, key)?.ok_or_else(empty)?;
    let visible = Visible::read(&layout, &root.content)?.ok_or_else(empty)?;
    if !is_due(&visible, now) {
        return Ok(false);
    }

    let snapshot = if is_fresh(&visible.snapshot.content, compose::SNAPSHOT, now) {
        compose::meta(visible.snapshot.content.version(), &visible.snapshot.bytes)
    } else {
        let version = layout.next("snapshot.json", now)?;
        let bytes = compose::snapshot(version, &visible.snapshot_meta(), key, now)?;
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
    let timestamp = compose::timestamp(version, snapshot, key, now)?;
    write(&layout.metadata, "timestamp.json", &timestamp)?;
    sync(&[&layout.metadata])?;
    Ok(true)
}

fn is_fresh<T: Kind>(metadata: &T, lifetime: Lifetime, now: Timestamp) -> bool {
    lifetime.is_fresh(metadata.expires(), now)
}

/// The version of the timestamp that follows what readers see.
fn timestamp_after(visible: Option<&Visible>, now: Timestamp) -> u64 {
    state::above(visible.map_or(0, |v| v.timestamp.content.version()), now)
}

/// Whether the timestamp or the snapshot should be signed anew.
fn is_due(visible: &Visible, now: Timestamp) -> bool {
    !is_fresh(&visible.timestamp.content, compose::TIMESTAMP, now)
        || !is_fresh(&visible.snapshot.content, compose::SNAPSHOT, now)
}

/// Checks the names and describes the targets as metadata does.
fn check<'a>(publication: &'a Publication<'_>) -> Result<BTreeMap<&'a str, Value>, WriteError> {
    let role: Name = publication.role.parse()?;
    // Such a role's file would be a top-level one's, or look like a version of another's.
    let taken = ["root", "timestamp", "snapshot", "targets"].contains(&role.as_str());
    if taken || state::split_version(&format!("{role}.json")).is_some() {
        return Err(WriteError::Role(role.into()));
    }
    let mut described = BTreeMap::new();
    for target in publication.targets {
        let name: Name = target.name.parse()?;
        if name.as_str() != "manifest.json" && !name.as_str().ends_with(".raw") {
            return Err(WriteError::Uncovered(name.into()));
        }
        let value = compose::target(target.length, target.digest);
        if described.insert(target.name.as_str(), value).is_some() {
            return Err(WriteError::Duplicate(name.into()));
        }
    }
    Ok(described)
}

/// The root that is in force, renewed if it would expire soon.
fn ensure_root(
    layout: &Layout,
    key: &SigningKey,
    now: Timestamp,
) -> Result<(u64, crate::metadata::Root), WriteError> {
    let old = state::root(layout, key)?;
    let version = match &old {
        Some(root) if is_fresh(&root.content, compose::ROOT, now) => root.content.version(),
        _ => {
            let version = old.as_ref().map_or(0, |root| root.content.version()) + 1;
            let bytes = compose::root(version, key, now)?;
            write(&layout.metadata, &format!("{version}.root.json"), &bytes)?;
            version
        }
    };
    let versioned = layout.metadata.join(format!("{version}.root.json"));
    link(&versioned, &layout.metadata, "root.json")?;
    sync(&[&layout.metadata])?;
    let root = state::root(layout, key)?.ok_or_else(|| WriteError::Empty {
        directory: layout.root.clone(),
    })?;
    Ok((version, root.content))
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
    Ok(files::write(directory, name, bytes, 0o644).at(&directory.join(name))?)
}

fn link(source: &Path, directory: &Path, name: &str) -> Result<(), WriteError> {
    let destination = directory.join(name);
    if files::same_file(source, &destination) {
        return Ok(());
    }
    Ok(files::link_or_copy(source, directory, name).at(&destination)?)
}

fn sync(directories: &[&Path]) -> Result<(), WriteError> {
    for directory in directories {
        files::sync_directory(directory).at(directory)?;
    }
    Ok(())
}
