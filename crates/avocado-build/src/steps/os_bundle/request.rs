//! The child's side of a bundle.

use std::collections::BTreeMap;
use std::path::PathBuf;

use avocado_events::Event;
use avocado_manifest::{Digest, Name};
use avocado_stone::{BundleParts, BundledFile, StoneError, StoneManifest};
use serde::{Deserialize, Serialize};

use super::super::board_images::BoardImages;
use super::{BuiltOsBundle, OsBundleFiles, OsBundleOutput, archive};
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees;

/// A bundle, as it travels to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OsBundleRequest {
    pub(super) name: Name,
    /// The stone manifest.
    pub(super) stone: String,
    pub(super) images: BoardImages,
}

/// A file of a bundle, and where it is.
pub(super) struct BuiltArtifact {
    pub(super) path: PathBuf,
    pub(super) file: BundledFile,
}

impl StepRequest for OsBundleRequest {
    const KIND: &'static str = "os_bundle";
    type Result = OsBundleOutput;

    fn work(self, context: &StepContext<'_>) -> Result<OsBundleOutput, BuildError> {
        let layout = &context.layout;
        let stone = StoneManifest::parse(self.stone.as_bytes())?;
        let work = layout.work(&format!("os-bundle-{}", self.name));
        trees::fresh(&work)?;
        let mut artifacts = Vec::new();
        let mut named = BTreeMap::new();
        let update = stone.update.iter();
        let stated = update.flat_map(|update| update.artifacts());
        for (index, (name, image, _)) in stated.enumerate() {
            let Some(image) = stone.image(image) else {
                continue;
            };
            // What the manifest calls it could lead anywhere.
            let at = work.join(index.to_string());
            let path = self.images.file(context, image, &at)?;
            let content = FileDigest::of(&path)?;
            let file = BundledFile {
                file: file_name(image.file())?,
                sha256: content.sha256,
                size: content.size,
            };
            named.insert(name.to_owned(), file.clone());
            artifacts.push(BuiltArtifact { path, file });
        }
        let initramfs_build_id = self.images.initramfs.stated_build_id();
        if initramfs_build_id.is_none() {
            context.sink.emit(Event::warning(format!(
                "the initramfs of `{}` has no usr/lib/initrd-release, in which it could say what build it \
                 is: devices do not notice an update in which it alone is another one",
                self.name
            )));
        }
        let parts = BundleParts {
            os_build_id: self.os_build_id()?,
            initramfs_build_id,
            artifacts: named,
        };
        let description = stone.bundle(&parts)?;
        let place = layout.os_bundle(&self.name);
        let new = trees::unfinished(&place);
        let description = description.to_json().map_err(StoneError::from)?;
        let description = String::from_utf8_lossy(&description);
        let chunks = archive::write(&new, &description, &artifacts, context.epoch)?;
        let index = chunks.to_json().map_err(StoneError::from)?;
        trees::write(&layout.os_bundle_chunks(&self.name), &index)?;
        trees::replace(&new, &place)?;
        let files = OsBundleFiles {
            archive: FileDigest {
                sha256: chunks.bundle.sha256,
                size: chunks.bundle.length,
            },
            chunks: FileDigest {
                sha256: Digest::of(&index),
                size: index.len() as u64,
            },
        };
        trees::clear(&work)?;
        Ok(OsBundleOutput {
            bundle: Some(BuiltOsBundle {
                files,
                os_build_id: parts.os_build_id,
                initramfs_build_id: parts.initramfs_build_id,
            }),
        })
    }
}

impl OsBundleRequest {
    /// Without one no device could tell that an update has come up.
    fn os_build_id(&self) -> Result<String, BuildError> {
        self.images.rootfs.stated_build_id().ok_or_else(|| {
            BuildError::Invalid(format!(
                "the rootfs of `{}` has no usr/lib/os-release, by which a device would know that an \
                 update of its OS has come up; add the package that brings it",
                self.name
            ))
        })
    }
}

fn file_name(path: &str) -> Result<Name, BuildError> {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.parse().map_err(|e| {
        BuildError::Invalid(format!(
            "`{}` cannot be a file of a bundle: {e}",
            path.escape_debug()
        ))
    })
}
