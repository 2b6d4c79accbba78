use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use avocado_events::{Cancel, Event, Sink};
use avocado_manifest::{Manifest, RuntimeId};
use serde::Serialize;

use super::needed::NeededFiles;
use crate::context::DeviceContext;
use crate::error::{DeviceError, FailureReason};
use crate::fallback;
use crate::merge::state::MergedState;
use crate::os_update::pending_update::PendingUpdate;
use crate::runtime_list::{built_at, previous};
use crate::store::pins::PinnedRuntimes;
use crate::store::pool::ImagePool;
use crate::store::runtimes::StoredRuntime;
use crate::store::{files, lock, reserve, staging};

/// What to prune.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// How many runtimes to keep, in all. Those that were built last are kept, and in any case the
    /// active one, the previous one, pinned ones, and one whose OS update is under way. `None`
    /// keeps every runtime.
    pub keep: Option<usize>,
    /// Change nothing, and say what would be removed.
    pub dry_run: bool,
}

/// What was pruned, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PruneReport {
    /// The runtimes.
    pub runtimes: Vec<PrunedRuntime>,
    /// The images that no runtime needs.
    pub images: Vec<PrunedImage>,
    /// What interrupted work had left, in bytes on the disk.
    pub leftover_bytes: u64,
    /// Everything together, in bytes on the disk.
    pub freed_bytes: u64,
    /// Why images or leftovers were spared altogether, where they were.
    pub spared: Option<String>,
}

/// A runtime that was pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PrunedRuntime {
    /// Its id.
    pub id: RuntimeId,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// An image that was pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PrunedImage {
    /// Its name in the pool.
    pub file: String,
    /// What it takes on the disk, in bytes.
    pub bytes: u64,
}

/// Removes what is not needed any more.
pub(crate) fn prune(
    context: &DeviceContext,
    options: &PruneOptions,
    sink: &dyn Sink,
) -> Result<PruneReport, DeviceError> {
    prune_but(None, context, options, &Cancel::new(), sink)
}

/// Removes the runtimes that are too many, now that `added` was added, and the images that they alone
/// needed. What else no runtime needs stays: it may be there for one that is to be added. Where images
/// are spared runtimes are too: nothing would come back to their images.
pub(crate) fn make_room(
    context: &DeviceContext,
    added: &RuntimeId,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<(), DeviceError> {
    let options = PruneOptions {
        keep: Some(context.config.runtime_retention),
        dry_run: false,
    };
    prune_but(Some(added), context, &options, cancel, sink).map(drop)
}

fn prune_but(
    added: Option<&RuntimeId>,
    context: &DeviceContext,
    options: &PruneOptions,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<PruneReport, DeviceError> {
    let base = context.base();
    if !base.is_dir() {
        return Ok(PruneReport::default());
    }
    let downloads = lock::try_lock_downloads(base).map_err(DeviceError::Store)?;
    let _lock = context
        .lock_store(cancel, sink)
        .map_err(DeviceError::Store)?;
    let divided = divide(context, options.keep, added).map_err(DeviceError::Store)?;
    let (goes, kept, unreadable) = divided;
    let is_spared = downloads.is_none() || unreadable.is_some();
    if added.is_some() && (goes.is_empty() || is_spared) {
        return Ok(PruneReport::default());
    }
    let mut pruned = PruneReport {
        runtimes: goes.iter().map(PrunedRuntime::new).collect(),
        spared: match (&downloads, unreadable) {
            (None, _) => Some("a download is running".to_owned()),
            (_, Some(id)) => Some(format!("runtime {id} cannot be read")),
            _ => None,
        },
        ..PruneReport::default()
    };
    let runtimes = context.runtimes();
    let mut pool = ImagePool::open(base);
    let mut leftovers = runtimes.leftovers().map_err(DeviceError::Store)?;
    if pruned.spared.is_none() {
        pruned.images = unneeded(context, &pool, &kept).map_err(DeviceError::Store)?;
        leftovers.extend(staging::directories(base));
    }
    if added.is_some() {
        let theirs = NeededFiles::of_runtimes(&goes);
        pruned.images.retain(|image| theirs.contains(&image.file));
        leftovers.clear();
    }
    let sizes = leftovers.iter().map(|path| on_disk(path));
    pruned.leftover_bytes = sizes.sum();
    let directories = goes
        .iter()
        .map(|m| on_disk(&base.join("runtimes").join(&m.id)));
    let images = pruned.images.iter().map(|image| image.bytes);
    pruned.freed_bytes = pruned.leftover_bytes + directories.sum::<u64>() + images.sum::<u64>();
    if options.dry_run {
        return Ok(pruned);
    }
    let mut remove = || -> Result<(), FailureReason> {
        // A runtime is gone for good before its images are.
        for runtime in &pruned.runtimes {
            sink.emit(Event::info(format!("removing runtime {}", runtime.id)));
            runtimes.remove(&runtime.id)?;
        }
        runtimes.sync_to_disk()?;
        let names: Vec<_> = pruned.images.iter().map(|i| i.file.clone()).collect();
        pool.remove(&names)?;
        leftovers
            .iter()
            .try_for_each(|path| files::remove_all(path))
    };
    remove().map_err(DeviceError::Store)?;
    reserve::keep(base);
    Ok(pruned)
}

/// Removes the images that no runtime needs, nor one that is to be added, which has these `files`: what was
/// left of others is worth less. Nothing goes where that makes less room than the `short` bytes that the
/// disk lacks. For who has the lock of the downloads.
pub(crate) fn make_room_for(
    files: &BTreeSet<String>,
    short: u64,
    context: &DeviceContext,
    pool: &mut ImagePool,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<(), FailureReason> {
    let _lock = context.lock_store(cancel, sink)?;
    let (_, kept, unreadable) = divide(context, None, None)?;
    if unreadable.is_some() {
        return Ok(());
    }
    let mut unneeded = unneeded(context, pool, &kept)?;
    unneeded.retain(|image| !files.contains(&image.file));
    if unneeded.iter().map(|image| image.bytes).sum::<u64>() < short {
        return Ok(());
    }
    for PrunedImage { file, bytes } in &unneeded {
        sink.emit(Event::info(format!(
            "removing the image {file} ({bytes} bytes), which no runtime needs, to make room"
        )));
    }
    let names: Vec<_> = unneeded.into_iter().map(|image| image.file).collect();
    pool.remove(&names)
}

/// The runtimes that go, those that stay, and one that cannot be read, if there is any.
fn divide(
    context: &DeviceContext,
    keep: Option<usize>,
    added: Option<&RuntimeId>,
) -> Result<(Manifests, Manifests, Option<String>), FailureReason> {
    let runtimes = context.runtimes();
    let mut protected = protected(context)?;
    protected.extend(added.cloned());
    let mut unreadable = None;
    let (mut kept, mut others) = (Vec::new(), Vec::new());
    for found in runtimes.everything()? {
        match found {
            StoredRuntime::Unreadable(id, _) if runtimes.may_need_images(&id) => {
                unreadable = Some(id);
            }
            StoredRuntime::Unreadable(..) => {}
            StoredRuntime::Whole(m) if protected.contains(&m.id) => kept.push(m),
            StoredRuntime::Whole(m) => others.push(m),
        }
    }
    others.sort_by_cached_key(|m| (Reverse((built_at(m), runtimes.added(&m.id))), m.id.clone()));
    let room = keep.map_or(others.len(), |keep| keep.saturating_sub(kept.len()));
    let goes = others.split_off(room.min(others.len()));
    kept.append(&mut others);
    Ok((goes, kept, unreadable))
}

/// The runtimes that must not be removed.
fn protected(context: &DeviceContext) -> Result<Vec<RuntimeId>, FailureReason> {
    let runtimes = context.runtimes();
    let mut protected = Vec::new();
    // Where the active one is not whole, any other one may be the way out.
    let active = runtimes.active()?;
    protected.extend(active.map(|manifest| manifest.id.clone()));
    protected.extend(previous(context));
    // What would be merged at the next boot if that cannot be, and what is merged instead already.
    let active = runtimes.active_id().ok().flatten();
    let ways = fallback::ways_back(context, active.as_ref());
    protected.extend(ways.first().map(|manifest| manifest.id.clone()));
    protected.extend(MergedState::load(&context.paths.merged()).runtime);
    let pending = PendingUpdate::load(context.base())?;
    protected.extend(pending.and_then(|pending| pending.runtime_id));
    let pins = PinnedRuntimes::load(context.base())?;
    let all = runtimes.all()?.into_iter();
    let pinned = all.filter(|manifest| pins.contains(&manifest.id));
    protected.extend(pinned.map(|manifest| manifest.id.clone()));
    Ok(protected)
}

/// The files of the pool that nothing needs.
fn unneeded(
    context: &DeviceContext,
    pool: &ImagePool,
    kept: &[Arc<Manifest>],
) -> Result<Vec<PrunedImage>, FailureReason> {
    let needed = NeededFiles::of(context, kept)?;
    let mut unneeded = Vec::new();
    for file in pool.names()? {
        if !needed.contains(&file) {
            let bytes = on_disk(&pool.file(&file));
            unneeded.push(PrunedImage { file, bytes });
        }
    }
    Ok(unneeded)
}

type Manifests = Vec<Arc<Manifest>>;

impl PrunedRuntime {
    fn new(manifest: &Arc<Manifest>) -> Self {
        PrunedRuntime {
            id: manifest.id.clone(),
            name: manifest.runtime.name.clone(),
            version: manifest.runtime.version.clone(),
        }
    }
}

/// What everything at `path` takes on the disk, in bytes. What vanishes meanwhile takes nothing.
fn on_disk(path: &Path) -> u64 {
    const BLOCK: u64 = 512;
    let Ok(meta) = fs::symlink_metadata(path) else {
        return 0;
    };
    let entries = meta.is_dir().then(|| fs::read_dir(path).ok()).flatten();
    let inside = entries.into_iter().flatten().flatten();
    meta.blocks() * BLOCK + inside.map(|entry| on_disk(&entry.path())).sum::<u64>()
}
