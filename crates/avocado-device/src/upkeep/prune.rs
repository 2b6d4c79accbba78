use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use avocado_events::{Event, Sink};
use avocado_manifest::{Manifest, RuntimeId};
use serde::{Deserialize, Serialize};

use crate::device::built_at;
use crate::merge::state::State;
use crate::store::pool::{Pool, Wanted};
use crate::store::{Found, files, lock};
use crate::{Device, Error, Reason};

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
pub struct Pruned {
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

impl Device {
    /// Removes what is not needed any more: runtimes, if `options` says how many to keep; images
    /// that no runtime needs; what interrupted work has left. While a download is running, and
    /// while a runtime cannot be read (nobody knows what it needs), images are spared.
    ///
    /// # Errors
    /// [`Error::Store`]. Also when `active` leads nowhere: then nothing is removed.
    pub fn prune(&self, options: &PruneOptions, sink: &dyn Sink) -> Result<Pruned, Error> {
        let base = &self.paths().base;
        if !base.is_dir() {
            return Ok(Pruned::default());
        }
        let downloads = lock::no_downloads(base).map_err(Error::Store)?;
        let _lock = self.lock(sink).map_err(Error::Store)?;
        let (goes, kept, unreadable) = self.divide(options.keep)?;
        let mut pruned = Pruned {
            runtimes: goes.iter().map(PrunedRuntime::new).collect(),
            spared: match (&downloads, unreadable) {
                (None, _) => Some("a download is running".to_owned()),
                (_, Some(id)) => Some(format!("runtime {id} cannot be read")),
                _ => None,
            },
            ..Pruned::default()
        };
        let runtimes = self.runtimes();
        let mut pool = Pool::open(base);
        let mut leftovers = runtimes.leftovers().map_err(Error::Store)?;
        if pruned.spared.is_none() {
            pruned.images = self.unneeded(&pool, &kept).map_err(Error::Store)?;
            leftovers.push(base.join(".update-staging"));
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
        let mut remove = || -> Result<(), Reason> {
            // A runtime is gone for good before its images are.
            for runtime in &pruned.runtimes {
                sink.emit(Event::info(format!("removing runtime {}", runtime.id)));
                runtimes.remove(&runtime.id)?;
            }
            runtimes.settle()?;
            let names: Vec<_> = pruned.images.iter().map(|i| i.file.clone()).collect();
            pool.remove(&names)?;
            leftovers
                .iter()
                .try_for_each(|path| files::remove_all(path))
        };
        remove().map_err(Error::Store)?;
        Ok(pruned)
    }

    /// The runtimes that go, those that stay, and one that cannot be read, if there is any.
    fn divide(&self, keep: Option<usize>) -> Result<(Manifests, Manifests, Option<String>), Error> {
        let runtimes = self.runtimes();
        let protected = self.protected()?;
        let mut unreadable = None;
        let (mut kept, mut others) = (Vec::new(), Vec::new());
        for found in runtimes.everything().map_err(Error::Store)? {
            match found {
                Found::Unreadable(id, _) => unreadable = Some(id),
                Found::Whole(m) if protected.contains(&m.id) => kept.push(m),
                Found::Whole(m) => others.push(m),
            }
        }
        others
            .sort_by_cached_key(|m| (Reverse((built_at(m), runtimes.added(&m.id))), m.id.clone()));
        let room = keep.map_or(others.len(), |keep| keep.saturating_sub(kept.len()));
        let goes = others.split_off(room.min(others.len()));
        kept.append(&mut others);
        Ok((goes, kept, unreadable))
    }

    /// The files of the pool that belong to none of `kept`, and are not merged.
    fn unneeded(&self, pool: &Pool, kept: &[Arc<Manifest>]) -> Result<Vec<PrunedImage>, Reason> {
        let mut needed = BTreeSet::new();
        for manifest in kept {
            // Older agents have other files beside an image, which differ in the suffix.
            needed.extend(
                Wanted::of(manifest)
                    .iter()
                    .map(|w| stem(&w.file).to_owned()),
            );
        }
        let merged = State::load(&self.paths().merged());
        let files = merged.extensions.iter().map(|e| &e.image.file);
        needed.extend(files.filter_map(|f| Some(stem(f.file_name()?.to_str()?).to_owned())));
        let mut unneeded = Vec::new();
        for file in pool.names()? {
            if !needed.contains(stem(&file)) {
                let bytes = on_disk(&pool.file(&file));
                unneeded.push(PrunedImage { file, bytes });
            }
        }
        Ok(unneeded)
    }
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

/// `x` of `x.raw`.
fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
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

/// The runtime whose OS update is under way.
pub(super) fn pending(base: &Path) -> Result<Option<RuntimeId>, Reason> {
    #[derive(Deserialize)]
    struct Pending {
        runtime_id: Option<RuntimeId>,
    }
    let path = base.join("pending-update.json");
    let bytes = match files::read(&path, 1 << 20) {
        Err(Reason::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        other => other?,
    };
    let pending: Result<Pending, _> = serde_json::from_slice(&bytes);
    let pending = pending.map_err(|e| Reason::file("understand", &path)(e.into()))?;
    Ok(pending.runtime_id)
}
