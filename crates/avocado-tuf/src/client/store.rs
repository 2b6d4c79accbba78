//! The trusted metadata of one repository on disk.
//!
//! Each file holds the bytes as they were received, under its unversioned name. What is read back
//! is verified again before it is believed, so the store is protection against going back, never
//! a source of trust, with two exceptions: the newest root, which is taken up again only under the
//! trust anchor that it was reached from, and the newest trusted time.

use std::path::PathBuf;

use avocado_fs::recorded;
use avocado_fs::{
    AtPath, PathError, TemporaryName, WriteOptions, file_names, read_if_there,
    remove_file_if_there, sync_directory,
};
use avocado_manifest::Digest;

use super::{ForgetLevel, TufError};
use crate::names::role_file;

/// Names the trust anchor that `root.json` descends from.
const ANCHOR: &str = "anchor.sha256";
/// Holds the newest trusted time.
const CLOCK: &str = "clock";

#[derive(Debug)]
pub(crate) struct MetadataStore {
    directory: PathBuf,
}

impl MetadataStore {
    /// A store that need not be there: the first write creates it.
    pub(crate) fn at(directory: PathBuf) -> Self {
        MetadataStore { directory }
    }

    /// The newest root reached from `anchor`, if one is stored.
    pub(crate) fn root(&self, anchor: &[u8]) -> Result<Option<Vec<u8>>, TufError> {
        let stored = self.get(ANCHOR)?;
        if stored.as_deref() != Some(name_of(anchor).as_bytes()) {
            return Ok(None);
        }
        self.read("root")
    }

    /// Stores `root`, which descends from `anchor`. Writes nothing where it is stored.
    pub(crate) fn write_root(&self, root: &[u8], anchor: &[u8]) -> Result<(), TufError> {
        // In this order, an interruption never leaves another anchor's root under this one's name.
        if self.read("root")?.as_deref() != Some(root) {
            self.write("root", root)?;
        }
        if self.get(ANCHOR)?.as_deref() != Some(name_of(anchor).as_bytes()) {
            self.put(ANCHOR, name_of(anchor).as_bytes())?;
        }
        Ok(())
    }

    pub(crate) fn read(&self, role: &str) -> Result<Option<Vec<u8>>, TufError> {
        Ok(self.get(&file(role)?)?)
    }

    pub(crate) fn write(&self, role: &str, bytes: &[u8]) -> Result<(), TufError> {
        Ok(self.put(&file(role)?, bytes)?)
    }

    pub(crate) fn clock(&self) -> Result<Option<Vec<u8>>, TufError> {
        Ok(self.get(CLOCK)?)
    }

    pub(crate) fn write_clock(&self, text: &str) -> Result<(), TufError> {
        Ok(self.put(CLOCK, text.as_bytes())?)
    }

    pub(crate) fn remove(&self, role: &str) -> Result<(), TufError> {
        let path = self.directory.join(file(role)?);
        Ok(remove_file_if_there(&path)?)
    }

    /// Removes the metadata that `forget` names. Each file counts for itself, so an interruption
    /// just forgets less.
    pub(crate) fn forget(&self, forget: ForgetLevel) -> Result<(), PathError> {
        for name in file_names(&self.directory)? {
            let goes = match name.as_str() {
                "root.json" => false,
                "timestamp.json" => forget >= ForgetLevel::Versions,
                CLOCK => forget >= ForgetLevel::Time,
                other => other.ends_with(".json"),
            };
            if goes {
                let path = self.directory.join(name);
                remove_file_if_there(&path)?;
            }
        }
        sync_directory(&self.directory)
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, PathError> {
        // Its size was judged when it came.
        read_if_there(&self.directory.join(name), u64::MAX)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), PathError> {
        recorded::create_directories(&self.directory).at("create", &self.directory)?;
        // One temporary name for all, so that a crash leaves at most one file behind. The user of the
        // client holds a lock.
        let options = WriteOptions::new()
            .mode(0o644)
            .temporary(TemporaryName::Shared(".new"));
        options.write(&self.directory.join(name), bytes)
    }
}

fn name_of(anchor: &[u8]) -> String {
    format!("{}\n", Digest::of(anchor))
}

fn file(role: &str) -> Result<String, TufError> {
    role_file(role).ok_or_else(|| TufError::RoleName {
        role: role.to_owned(),
    })
}
