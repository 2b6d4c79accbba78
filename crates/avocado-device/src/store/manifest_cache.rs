use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use avocado_manifest::{Manifest, RuntimeId};
use rustix::fs::AtFlags;

use crate::error::FailureReason;

/// Manifests that were read before, for as long as their files stay the same ones. Clones are the
/// same cache.
#[derive(Debug, Clone, Default)]
pub(crate) struct ManifestCache(Arc<Mutex<KnownManifests>>);

type KnownManifests = HashMap<RuntimeId, (FileIdentity, Arc<Manifest>)>;

/// More manifests than this are not remembered.
const REMEMBERED: usize = 256;

/// What a file was like when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl FileIdentity {
    fn of(dir: impl AsFd, path: &Path) -> io::Result<Self> {
        let meta = rustix::fs::statat(dir, path, AtFlags::empty())?;
        Ok(FileIdentity {
            device: meta.st_dev,
            inode: meta.st_ino,
            size: meta.st_size.unsigned_abs(),
            changed: (meta.st_ctime, meta.st_ctime_nsec.cast_signed()),
        })
    }
}

impl ManifestCache {
    /// The manifest of a runtime, whose file is at `path` in `dir`; `read` only if that has changed.
    pub(super) fn get(
        &self,
        dir: impl AsFd,
        path: &Path,
        id: &RuntimeId,
        read: impl FnOnce() -> Result<Manifest, FailureReason>,
    ) -> Result<Arc<Manifest>, FailureReason> {
        let Ok(before) = FileIdentity::of(&dir, path) else {
            // It says why.
            return read().map(Arc::new);
        };
        if let Some((_, manifest)) = self.lock().get(id).filter(|(state, _)| *state == before) {
            return Ok(Arc::clone(manifest));
        }
        let manifest = Arc::new(read()?);
        // Only what held still while it was read is worth remembering.
        if FileIdentity::of(&dir, path).is_ok_and(|after| after == before) {
            let mut known = self.lock();
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(id.clone(), (before, Arc::clone(&manifest)));
        }
        Ok(manifest)
    }

    fn lock(&self) -> MutexGuard<'_, KnownManifests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
