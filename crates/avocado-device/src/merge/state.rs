use std::path::{Path, PathBuf};

use avocado_manifest::{Digest, ImageId, Name, RuntimeId};
use serde::{Deserialize, Serialize};

use super::release::Command;
use crate::Reason;
use crate::store::files;
use crate::store::named::Named;

/// An image or directory that is to be merged. The bytes of an image that a runtime names have been
/// checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Image {
    pub(crate) name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image_id: Option<ImageId>,
    /// The file in the pool.
    pub(crate) file: PathBuf,
    /// None of one that no runtime names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<Digest>,
}

impl Image {
    /// One that belongs to no runtime.
    pub(crate) fn named(named: Named) -> Self {
        Image {
            name: named.name,
            version: None,
            image_id: None,
            file: named.path,
            sha256: None,
        }
    }

    /// What the mount point and, in a runtime with a number before it, systemd call it.
    pub(crate) fn full_name(&self) -> String {
        match &self.version {
            Some(version) => format!("{}-{version}", self.name),
            None => self.name.to_string(),
        }
    }

    /// What it is merged from, for people.
    pub(crate) fn origin(&self) -> String {
        match self.file.is_dir() {
            true => "Dir".to_owned(),
            false => format!("Loop:{}", self.full_name()),
        }
    }
}

/// An extension that was merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Merged {
    #[serde(flatten)]
    pub(crate) image: Image,
    /// The name by which systemd knows it; the higher sorts, the higher it lies.
    pub(crate) link: String,
    /// Merged into `/usr` and `/opt`. An extension that is neither is out of scope here.
    pub(crate) sysext: bool,
    /// Merged into `/etc`.
    pub(crate) confext: bool,
    #[serde(default)]
    pub(crate) on_merge: Vec<Command>,
    #[serde(default)]
    pub(crate) on_unmerge: Vec<Command>,
    #[serde(default)]
    pub(crate) modules: Vec<String>,
    #[serde(default)]
    pub(crate) services: Vec<String>,
}

/// What was merged last, in the order of the manifest: `/run/avocado/merged.json`, so that it
/// lives as long as the merge does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) runtime: Option<RuntimeId>,
    #[serde(default)]
    pub(crate) extensions: Vec<Merged>,
}

const LIMIT: u64 = 16 << 20;

impl State {
    /// Nothing where there is no file, or one that cannot be read: then all is merged anew.
    pub(crate) fn load(path: &Path) -> Self {
        let bytes = files::read(path, LIMIT).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), Reason> {
        if self.extensions.is_empty() {
            return files::remove(path);
        }
        if let Some(parent) = path.parent() {
            files::create_dir(parent)?;
        }
        files::write(path, &serde_json::to_vec_pretty(self).unwrap_or_default())
    }

    pub(crate) fn images(&self) -> Vec<Image> {
        self.extensions.iter().map(|e| e.image.clone()).collect()
    }

    pub(crate) fn get(&self, name: &Name) -> Option<&Merged> {
        self.extensions.iter().find(|e| e.image.name == *name)
    }

    /// Those that are not, with the same bytes, in `other`.
    pub(crate) fn not_in<'a>(&'a self, other: &'a State) -> impl Iterator<Item = &'a Merged> {
        self.extensions.iter().filter(|mine| {
            other
                .get(&mine.image.name)
                .is_none_or(|theirs| theirs.image.sha256 != mine.image.sha256)
        })
    }
}
