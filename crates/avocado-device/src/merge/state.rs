use std::path::{Path, PathBuf};

use avocado_manifest::{Digest, ImageId, Name, RuntimeId};
use serde::{Deserialize, Serialize};

use super::content::SystemdContent;
use super::release::HookCommand;
use crate::degraded::DegradedState;
use crate::error::FailureReason;
use crate::store::files;
use crate::store::standalone::StandaloneExtension;

/// An image or directory that is to be merged. The bytes of an image that a runtime names have been
/// checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerImage {
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

impl LayerImage {
    /// One that belongs to no runtime.
    pub(crate) fn standalone(extension: StandaloneExtension) -> Self {
        LayerImage {
            name: extension.name,
            version: None,
            image_id: None,
            file: extension.path,
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
        if self.file.is_dir() {
            return "Dir".to_owned();
        }
        format!("Loop:{}", self.full_name())
    }
}

/// An extension that was merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MergedExtension {
    #[serde(flatten)]
    pub(crate) image: LayerImage,
    /// The name by which systemd knows it; the higher sorts, the higher it lies.
    pub(crate) link: String,
    /// MergedExtension into `/usr` and `/opt`. An extension that is neither is out of scope here.
    pub(crate) sysext: bool,
    /// MergedExtension into `/etc`.
    pub(crate) confext: bool,
    #[serde(default)]
    pub(crate) on_merge: Vec<HookCommand>,
    #[serde(default)]
    pub(crate) on_unmerge: Vec<HookCommand>,
    #[serde(default)]
    pub(crate) modules: Vec<String>,
    #[serde(default)]
    pub(crate) services: Vec<String>,
    #[serde(default)]
    pub(crate) systemd: SystemdContent,
}

/// What was merged last, in the order of the manifest: `/run/avocado/merged.json`, so that it
/// lives as long as the merge does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MergedState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) runtime: Option<RuntimeId>,
    #[serde(default)]
    pub(crate) extensions: Vec<MergedExtension>,
    /// Why it is not what should be merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) degraded: Option<DegradedState>,
}

const LIMIT: u64 = 16 << 20;

impl MergedState {
    /// Nothing where there is no file, or one that cannot be read: then all is merged anew.
    pub(crate) fn load(path: &Path) -> Self {
        let bytes = files::read(path, LIMIT).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), FailureReason> {
        if self.extensions.is_empty() && self.degraded.is_none() {
            return files::remove(path);
        }
        if let Some(parent) = path.parent() {
            files::create_dir(parent)?;
        }
        files::write_json(path, self)
    }

    pub(crate) fn images(&self) -> Vec<LayerImage> {
        self.extensions.iter().map(|e| e.image.clone()).collect()
    }

    pub(crate) fn get(&self, name: &Name) -> Option<&MergedExtension> {
        self.extensions.iter().find(|e| e.image.name == *name)
    }

    /// Those that are not, with the same bytes, in `other`.
    pub(crate) fn not_in<'a>(
        &'a self,
        other: &'a MergedState,
    ) -> impl Iterator<Item = &'a MergedExtension> {
        self.extensions.iter().filter(|mine| {
            other
                .get(&mine.image.name)
                .is_none_or(|theirs| theirs.image.sha256 != mine.image.sha256)
        })
    }
}
