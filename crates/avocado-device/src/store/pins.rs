//! Which runtimes must not be removed: `<base>/pinned.json`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use avocado_manifest::RuntimeId;
use serde::{Deserialize, Serialize};

use super::files;
use crate::error::FailureReason;

const LIMIT: u64 = 1 << 20;

#[derive(Debug, Default)]
pub(crate) struct PinnedRuntimes {
    path: PathBuf,
    pinned: BTreeSet<RuntimeId>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    pinned: BTreeSet<RuntimeId>,
}

impl PinnedRuntimes {
    /// The pins of the store at `base`. Ones that cannot be read are an error: without knowing
    /// what is pinned nothing may be removed.
    pub(crate) fn load(base: &Path) -> Result<Self, FailureReason> {
        let path = base.join("pinned.json");
        let document = match files::read(&path, LIMIT) {
            Err(FailureReason::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Document::default()
            }
            other => serde_json::from_slice(&other?)
                .map_err(|e| FailureReason::file("understand", &path)(e.into()))?,
        };
        Ok(PinnedRuntimes {
            path,
            pinned: document.pinned,
        })
    }

    pub(crate) fn contains(&self, id: &RuntimeId) -> bool {
        self.pinned.contains(id)
    }

    /// PinnedRuntimes or unpins a runtime. `exists` says for which ones that still means something.
    pub(crate) fn set(
        &mut self,
        id: &RuntimeId,
        pinned: bool,
        exists: impl Fn(&RuntimeId) -> bool,
    ) -> Result<(), FailureReason> {
        let changed = if pinned {
            self.pinned.insert(id.clone())
        } else {
            self.pinned.remove(id)
        };
        if !changed {
            // A process that was killed may have written it without syncing the directory.
            let base = self.path.parent().unwrap_or(&self.path);
            return files::sync_dir(base);
        }
        self.pinned.retain(exists);
        let document = Document {
            pinned: self.pinned.clone(),
        };
        files::write_json(&self.path, &document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_last_and_damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let load = || PinnedRuntimes::load(dir.path());
        let id = |text: &str| text.parse::<RuntimeId>().unwrap();
        for (name, pinned) in [("a", false), ("a", true), ("a", true), ("b", true)] {
            load().unwrap().set(&id(name), pinned, |_| true).unwrap();
            assert_eq!(load().unwrap().contains(&id(name)), pinned);
        }
        // What is not there any more is forgotten.
        load()
            .unwrap()
            .set(&id("b"), false, |i| *i != id("a"))
            .unwrap();
        assert!(!load().unwrap().contains(&id("a")) && !load().unwrap().contains(&id("b")));
        for damage in ["", "{", "{\"pinned\":[\"../x\"]}"] {
            std::fs::write(dir.path().join("pinned.json"), damage).unwrap();
            assert!(load().is_err(), "{damage}");
        }
    }
}
