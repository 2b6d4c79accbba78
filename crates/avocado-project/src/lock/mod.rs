//! `avocado.lock`: the exact packages of each target, and the feed snapshot they are from.

mod document;
mod json;
mod migrate;
mod store;
mod target;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use avocado_manifest::Name;

use crate::Error;

pub use target::{Snapshot, Sysroot, TargetLock};

/// The version of the lock file that is written. Older ones are read.
pub const LOCK_VERSION: u64 = 7;

/// The lock file of one project. What it holds that is not known here is kept.
#[derive(Debug, Clone)]
pub struct LockFile {
    path: PathBuf,
    /// `.avocado/lock.json`, where that is what was read; removed by the next save.
    legacy: Option<PathBuf>,
    /// The bytes of the file as it is.
    on_disk: Option<Vec<u8>>,
    /// `distro.release` when the packages were locked.
    pub distro_release: Option<String>,
    targets: BTreeMap<String, TargetLock>,
    other: json::Map,
}

impl LockFile {
    /// Reads `<src_dir>/avocado.lock`, else `<src_dir>/.avocado/lock.json`; without either the
    /// lock is empty. Versions 1 to 7 are read.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::LockSyntax`], [`Error::LockShape`] or [`Error::LockVersion`].
    pub fn load(src_dir: &Path) -> Result<Self, Error> {
        store::load(src_dir)
    }

    /// Writes `<src_dir>/avocado.lock` if its bytes change, and removes the legacy file. Answers
    /// whether it was written. The old file stays whole until the new one is.
    ///
    /// # Errors
    /// [`Error::LockWrite`].
    pub fn save(&mut self) -> Result<bool, Error> {
        store::save(self)
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is locked for a target.
    pub fn target(&self, target: &Name) -> Option<&TargetLock> {
        self.targets.get(target.as_str())
    }

    /// What is locked for a target, to change it.
    pub fn target_mut(&mut self, target: &Name) -> &mut TargetLock {
        self.targets.entry(target.as_str().to_owned()).or_default()
    }

    /// Forgets packages, kernels and the snapshot of a target. `boot` stays.
    pub fn clear_target(&mut self, target: &Name) {
        if let Some(lock) = self.targets.get_mut(target.as_str()) {
            lock.clear();
            if lock.is_empty() {
                self.targets.remove(target.as_str());
            }
        }
    }

    /// The bytes of the file: pretty JSON, sorted keys, a final line end.
    fn to_bytes(&self) -> Vec<u8> {
        let value = document::write(self);
        // Keys are text, and numbers are what was read as one: this does not fail.
        let mut bytes = serde_json::to_vec_pretty(&value).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests;
