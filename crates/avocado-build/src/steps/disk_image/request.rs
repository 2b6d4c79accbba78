//! The child's side: images of disks.

use avocado_manifest::Name;
use avocado_stone::StoneManifest;
use serde::{Deserialize, Serialize};

use super::super::board_images::BoardImages;
use super::DiskImageOutput;
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::images::gpt;
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees;

/// Disks, as they travel to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DiskImageRequest {
    pub(super) name: Name,
    /// The stone manifest.
    pub(super) stone: String,
    pub(super) images: BoardImages,
}

impl StepRequest for DiskImageRequest {
    const KIND: &'static str = "disk_image";
    type Result = DiskImageOutput;

    fn work(self, context: &StepContext<'_>) -> Result<DiskImageOutput, BuildError> {
        let stone = StoneManifest::parse(self.stone.as_bytes())?;
        let layout = &context.layout;
        let work = layout.work(&format!("disk-images-{}", self.name));
        trees::fresh(&work)?;
        let place = layout.disk_images(&self.name);
        let new = trees::unfinished(&place);
        trees::fresh(&new)?;
        let mut disks: Vec<(Name, FileDigest)> = Vec::new();
        let mut made_files = 0_usize;
        for (name, device) in &stone.storage_devices {
            let disk = device.gpt(name, &stone.runtime.platform)?;
            let mut files = Vec::new();
            for (image, made) in &device.images {
                let is_wanted = disk
                    .partitions
                    .iter()
                    .any(|p| p.image.as_ref() == Some(image));
                if is_wanted {
                    // What the manifest calls them could lead anywhere.
                    let at = work.join(made_files.to_string());
                    made_files += 1;
                    files.push((image.as_str(), self.images.file(context, made, &at)?));
                }
            }
            if disks.iter().any(|(other, _)| *other == disk.file) {
                return Err(BuildError::Invalid(format!(
                    "two disks of the stone manifest have one image, `{}`: state another `out` for \
                     storage_devices.{name}",
                    disk.file
                )));
            }
            let image = new.join(&disk.file);
            gpt::write(context, &disk, &files, &image)?;
            disks.push((disk.file, FileDigest::of(&image)?));
        }
        if disks.is_empty() {
            return Err(BuildError::Invalid(
                "the stone manifest has no disk (`storage_devices`)".to_owned(),
            ));
        }
        trees::replace(&new, &place)?;
        trees::clear(&work)?;
        Ok(DiskImageOutput { disks })
    }
}
