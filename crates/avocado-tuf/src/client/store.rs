//! The trusted metadata of one repository on disk.
//!
//! Each file holds the bytes as they were received, under its unversioned name. What is read back
//! is verified again before it is believed, so the store is protection against going back, never
//! a source of trust, with two exceptions: the newest root, which is taken up again only under the
//! trust anchor that it was reached from, and the newest trusted time.

use std::path::PathBuf;

use avocado_manifest::Digest;

use super::{Error, Forget};
use crate::files::{self, At, PathError};
use crate::names::role_file;

/// Names the trust anchor that `root.json` descends from.
const ANCHOR: &str = "anchor.sha256";
/// Holds the newest trusted time.
const CLOCK: &str = "clock";

#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
}

impl Store {
    pub(crate) fn open(directory: PathBuf) -> Result<Self, PathError> {
        files::create_directory(&directory, 0o755).at(&directory)?;
        Ok(Store { directory })
    }

    /// A store that need not be there.
    pub(crate) fn at(directory: PathBuf) -> Self {
        Store { directory }
    }

    /// The newest root reached from `anchor`, if one is stored.
    pub(crate) fn root(&self, anchor: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let stored = self.get(ANCHOR)?;
        if stored.as_deref() != Some(name_of(anchor).as_bytes()) {
            return Ok(None);
        }
        self.read("root")
    }

    /// Begins again at `anchor`.
    pub(crate) fn reset_root(&self, anchor: &[u8]) -> Result<(), Error> {
        // In this order, an interruption never leaves another anchor's root under this one's name.
        self.write("root", anchor)?;
        self.put(ANCHOR, name_of(anchor).as_bytes())?;
        Ok(())
    }

    pub(crate) fn read(&self, role: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.get(&file(role)?)?)
    }

    pub(crate) fn write(&self, role: &str, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.put(&file(role)?, bytes)?)
    }

    pub(crate) fn clock(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.get(CLOCK)?)
    }

    pub(crate) fn write_clock(&self, text: &str) -> Result<(), Error> {
        Ok(self.put(CLOCK, text.as_bytes())?)
    }

    pub(crate) fn remove(&self, role: &str) -> Result<(), Error> {
        let path = self.directory.join(file(role)?);
        files::remove_if_there(&path).at(&path)?;
        Ok(())
    }

    /// Removes the metadata that `forget` names. Each file counts for itself, so an interruption
    /// just forgets less.
    pub(crate) fn forget(&self, forget: Forget) -> Result<(), PathError> {
        for name in files::names(&self.directory).at(&self.directory)? {
            let goes = match name.as_str() {
                "root.json" => false,
                "timestamp.json" => forget >= Forget::Versions,
                CLOCK => forget >= Forget::Time,
                other => other.ends_with(".json"),
            };
            if goes {
                let path = self.directory.join(name);
                files::remove_if_there(&path).at(&path)?;
            }
        }
        files::sync_directory(&self.directory).at(&self.directory)
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, PathError> {
        let path = self.directory.join(name);
        files::read_if_there(&path).at(&path)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), PathError> {
        files::write(&self.directory, name, bytes, 0o644).at(&self.directory.join(name))?;
        files::sync_directory(&self.directory).at(&self.directory)
    }
}

fn name_of(anchor: &[u8]) -> String {
    format!("{}\n", Digest::of(anchor))
}

fn file(role: &str) -> Result<String, Error> {
    role_file(role).ok_or_else(|| Error::RoleName {
        role: role.to_owned(),
    })
}
