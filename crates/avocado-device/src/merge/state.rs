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
    /// Set where it is a directory of a server, in the place of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hitl: Option<HitlLayer>,
}

/// What a layer has from a server, which no digest tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HitlLayer {
    /// The name that it has there.
    pub(crate) name: Name,
    /// Which mount it is: no two are the same.
    pub(crate) mount: u64,
    /// What of it is merged, where the server counts its changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<String>,
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
            hitl: None,
        }
    }

    /// What is mounted from a server at `place`, in the place of this image.
    pub(crate) fn at_server(self, layer: HitlLayer, place: PathBuf) -> Self {
        LayerImage {
            file: place,
            sha256: None,
            hitl: Some(layer),
            ..self
        }
    }

    /// Whether what it has is known to be what `other` has. Of a server that does not count its
    /// changes, nothing is known.
    pub(crate) fn has_bytes_of(&self, other: &LayerImage) -> bool {
        match (&self.hitl, &other.hitl) {
            (None, None) => self.sha256 == other.sha256,
            (Some(mine), Some(theirs)) => mine.revision.is_some() && mine == theirs,
            _ => false,
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
        // Not looked at: the server may be gone.
        if self.hitl.is_some() {
            return "HITL".to_owned();
        }
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
        if self.is_nothing() {
            return files::remove(path);
        }
        if let Some(parent) = path.parent() {
            files::create_dir(parent)?;
        }
        files::write_json(path, self)
    }

    /// Whether nothing is merged, and nothing should be.
    pub(crate) fn is_nothing(&self) -> bool {
        self.extensions.is_empty() && self.degraded.is_none()
    }

    pub(crate) fn images(&self) -> Vec<LayerImage> {
        self.extensions.iter().map(|e| e.image.clone()).collect()
    }

    pub(crate) fn get(&self, name: &Name) -> Option<&MergedExtension> {
        self.extensions.iter().find(|e| e.image.name == *name)
    }

    /// What is merged from a server under this name.
    pub(crate) fn of_server(&self, name: &Name) -> Option<&MergedExtension> {
        let mut all = self.extensions.iter();
        all.find(|e| {
            e.image
                .hitl
                .as_ref()
                .is_some_and(|layer| layer.name == *name)
        })
    }

    /// Those that are not, with the same bytes, in `other`.
    pub(crate) fn not_in<'a>(
        &'a self,
        other: &'a MergedState,
    ) -> impl Iterator<Item = &'a MergedExtension> {
        self.extensions.iter().filter(|mine| {
            other
                .get(&mine.image.name)
                .is_none_or(|theirs| !theirs.image.has_bytes_of(&mine.image))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_has_is_told_by_its_revision() {
        let image = || {
            LayerImage::standalone(StandaloneExtension {
                name: "app".parse().unwrap(),
                path: "app".into(),
            })
        };
        let served = |mount: u64, revision: Option<&str>| {
            let layer = HitlLayer {
                name: "app".parse().unwrap(),
                mount,
                revision: revision.map(str::to_owned),
            };
            image().at_server(layer, "place".into())
        };
        assert!(image().has_bytes_of(&image()));
        assert!(served(1, Some("1")).has_bytes_of(&served(1, Some("1"))));
        for (one, other) in [
            (served(1, Some("1")), served(1, Some("2"))),
            (served(1, Some("1")), served(2, Some("1"))),
            (served(1, None), served(1, None)),
            (image(), served(1, Some("1"))),
            (served(1, None), image()),
        ] {
            assert!(!one.has_bytes_of(&other), "{one:?} {other:?}");
        }
    }
}
