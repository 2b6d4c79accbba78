//! What dnf makes of the metadata of repositories, and keeps in its cache: an index for each. It does
//! not see when one was cut off (by a full disk, a power cut or a kill) and fails with errors of
//! every kind, until the index is gone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use avocado_manifest::Digest;

use crate::error::{At as _, BuildError};
use crate::trees;

/// The indexes in a cache of dnf.
pub(super) struct Indexes {
    cache: PathBuf,
    /// Beside the cache: the digests of those that a dnf left which succeeded.
    record: PathBuf,
}

impl Indexes {
    pub(super) fn of(cache: &Path) -> Self {
        Indexes {
            cache: cache.to_owned(),
            record: trees::hidden(cache, ".indexes"),
        }
    }

    /// Removes those that are not as they were recorded.
    pub(super) fn drop_damaged(&self) -> Result<(), BuildError> {
        let known = fs::read(&self.record).unwrap_or_default();
        let known: BTreeMap<String, Digest> = serde_json::from_slice(&known).unwrap_or_default();
        for (name, digest) in self.digests()? {
            if known.get(&name) != Some(&digest) {
                trees::clear(&self.cache.join(name))?;
            }
        }
        Ok(())
    }

    /// Those that are there are good.
    pub(super) fn record(&self) -> Result<(), BuildError> {
        let text = serde_json::to_vec(&self.digests()?);
        let text = text.map_err(|e| BuildError::Invalid(e.to_string()))?;
        trees::write(&self.record, text)
    }

    /// The metadata that the indexes are made of: for each repository the digest of what its feed
    /// signs or changes first, `repomd.xml`, which has the digests of the rest.
    pub(super) fn metadata(&self) -> Result<BTreeMap<PathBuf, Digest>, BuildError> {
        let mut digests = BTreeMap::new();
        for entry in fs::read_dir(&self.cache).into_iter().flatten().flatten() {
            let path = entry.path().join("repodata/repomd.xml");
            if path.is_file() {
                digests.insert(path.clone(), digest_of(&path)?);
            }
        }
        Ok(digests)
    }

    fn digests(&self) -> Result<BTreeMap<String, Digest>, BuildError> {
        let mut digests = BTreeMap::new();
        for entry in fs::read_dir(&self.cache).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_index = path
                .extension()
                .is_some_and(|e| e == "solv" || e == "solvx");
            if let Some(name) = entry.file_name().to_str().filter(|_| is_index) {
                digests.insert(name.to_owned(), digest_of(&path)?);
            }
        }
        Ok(digests)
    }
}

fn digest_of(path: &Path) -> Result<Digest, BuildError> {
    let file = File::open(path).at("open", path)?;
    let (digest, _) = Digest::of_reader(file).at("read", path)?;
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_is_not_as_it_was_left_is_dropped() {
        let state = tempfile::tempdir().unwrap();
        let cache = state.path().join("cache");
        fs::create_dir(&cache).unwrap();
        let indexes = Indexes::of(&cache);
        for name in ["a.solv", "b.solvx", "c.solv", "repomd.xml"] {
            fs::write(cache.join(name), "whole").unwrap();
        }
        indexes.record().unwrap();
        fs::write(cache.join("a.solv"), "who").unwrap();
        fs::write(cache.join("b.solvx"), [0; 5]).unwrap();
        fs::write(cache.join("new.solv"), "of a dnf that failed").unwrap();
        fs::write(cache.join("repomd.xml"), "another").unwrap();
        indexes.drop_damaged().unwrap();
        let mut left: Vec<_> = fs::read_dir(&cache)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["c.solv", "repomd.xml"]);
        // A record that is cut off itself knows of none.
        fs::write(&indexes.record, "{").unwrap();
        indexes.drop_damaged().unwrap();
        assert!(!cache.join("c.solv").exists());
    }
}
