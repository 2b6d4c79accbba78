//! Which bytes a manifest means that does not say it itself: `runtimes/<id>/targets.json`.
//!
//! The oldest manifests name their images `<name>-<version>.raw` and give no digest; the metadata
//! that was signed does. Two runtimes may well have an image of one name and other bytes, so what
//! was signed is kept with the runtime, and the pool has such an image under the id that follows
//! from its bytes, as every other one.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use avocado_manifest::{Digest, ImageId, Manifest};
use serde::{Deserialize, Serialize};

use super::files;
use crate::error::FailureReason;

/// The file in a runtime's directory. Manifests that say everything themselves have none.
const FILE: &str = "targets.json";

/// Larger than that of any runtime.
const LIMIT: u64 = 4 << 20;

/// The digests of targets, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignedTargets {
    targets: BTreeMap<String, Digest>,
}

impl SignedTargets {
    /// What was signed for the runtime whose directory this is.
    pub(crate) fn load(directory: &Path) -> Result<Self, FailureReason> {
        let path = directory.join(FILE);
        match files::read(&path, LIMIT) {
            Err(FailureReason::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(SignedTargets::default())
            }
            other => serde_json::from_slice(&other?)
                .map_err(|e| FailureReason::file("understand", &path)(e.into())),
        }
    }

    /// Writes it into the directory of a runtime, unless there is nothing to write.
    pub(crate) fn save(&self, directory: &Path) -> Result<(), FailureReason> {
        if self.is_empty() {
            return Ok(());
        }
        files::write_json(&directory.join(FILE), self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Notes what was signed for an extension, if its manifest does not name the image by its bytes.
    pub(crate) fn note(&mut self, target: &str, sha256: Digest) {
        self.targets.insert(target.to_owned(), sha256);
    }

    /// Lets the manifest say what was signed.
    pub(crate) fn complete(&self, manifest: &mut Manifest) {
        let unnamed = manifest
            .extensions
            .iter_mut()
            .filter(|e| e.image_id.is_none());
        for extension in unnamed {
            if let Some(sha256) = self.targets.get(&extension.file_name()) {
                extension.image_id = Some(ImageId::from_digest(*sha256));
                extension.sha256 = Some(*sha256);
            }
        }
    }
}
