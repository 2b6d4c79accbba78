//! What an OS bundle says, made of a manifest and of what was built.

use std::collections::{BTreeMap, BTreeSet};

use avocado_manifest::os_bundle::{
    OS_BUNDLE_FORMAT, OS_BUNDLE_IMAGES, OsBundleDescription, ReleaseCheck,
};
use avocado_manifest::{Digest, Name};
use serde_json::{Value, json};

use crate::error::StoneError;
use crate::manifest::StoneManifest;
use crate::update::StoneUpdate;

/// What was built for a bundle.
#[derive(Debug, Clone)]
pub struct BundleParts {
    /// `AVOCADO_OS_BUILD_ID` of the root file system.
    pub os_build_id: String,
    /// That of the initial RAM file system, where it states one.
    pub initramfs_build_id: Option<String>,
    /// The files, by the name of their artifact.
    pub artifacts: BTreeMap<String, BundledFile>,
}

/// A file of a bundle.
#[derive(Debug, Clone)]
pub struct BundledFile {
    /// Its name in the archive.
    pub file: Name,
    /// Its content.
    pub sha256: Digest,
    /// In bytes.
    pub size: u64,
}

impl StoneManifest {
    /// What a bundle of these parts says about itself.
    ///
    /// # Errors
    /// Where the manifest has no `update`, says something there that no device could do, or a file is
    /// missing or larger than the partition that it is for.
    pub fn bundle(&self, parts: &BundleParts) -> Result<OsBundleDescription, StoneError> {
        let Some(update) = &self.update else {
            return Err(StoneError::invalid("update", "there is none"));
        };
        let mut artifacts = Vec::new();
        for (name, _, artifact) in update.artifacts() {
            let at = format!("update.os_artifacts.{name}");
            let Some(file) = parts.artifacts.get(name) else {
                return Err(StoneError::invalid(at, "nothing was built for it"));
            };
            for partition in artifact.slot_partitions.values() {
                self.check_room(&at, partition, file)?;
            }
            let targets = artifact.slot_partitions.iter();
            let targets = targets.map(|(slot, name)| (slot.clone(), json!({"partition": name})));
            artifacts.push(json!({
                "name": name,
                "file": format!("{OS_BUNDLE_IMAGES}/{}", file.file),
                "sha256": file.sha256,
                "size": file.size,
                "slot_targets": Value::Object(targets.collect()),
            }));
        }
        let strategy = self.runtime.update_strategy.as_deref();
        let initramfs_id = parts.initramfs_build_id.as_deref();
        let mut bundle = json!({
            "format_version": OS_BUNDLE_FORMAT,
            "platform": self.runtime.platform,
            "architecture": self.runtime.architecture,
            "os_build_id": parts.os_build_id,
            "initramfs_build_id": parts.initramfs_build_id,
            "update": {
                "strategy": strategy.unwrap_or("uboot-ab"),
                "slot_detection": update.slot_detection,
                "artifacts": artifacts,
                "activate": update.activate,
                "rollback": update.rollback,
                "commit": update.commit,
            },
            "verify": ReleaseCheck::of_build(&parts.os_build_id),
            "verify_initramfs": initramfs_id.map(ReleaseCheck::of_build),
        });
        if let Some(layout) = self.stated_layout(update)? {
            bundle["layout"] = layout;
        }
        OsBundleDescription::from_json(bundle).map_err(StoneError::Bundle)
    }

    /// Everything in the manifest that an update follows from: what a bundle of it says but for what was
    /// built, and how its images are made. None where the target cannot be updated.
    ///
    /// # Errors
    /// As for [`StoneManifest::bundle`].
    pub fn update_content(&self) -> Result<Option<Value>, StoneError> {
        let Some(update) = &self.update else {
            return Ok(None);
        };
        let (mut artifacts, mut images) = (BTreeMap::new(), BTreeMap::new());
        for (nth, (name, image, _)) in update.artifacts().enumerate() {
            let file = BundledFile {
                file: format!("artifact-{nth}").parse().map_err(
                    |e: avocado_manifest::NameError| StoneError::invalid(name, e.to_string()),
                )?,
                sha256: Digest::of(b""),
                size: 0,
            };
            artifacts.insert(name.to_owned(), file);
            images.insert(name, self.image(image));
        }
        let described = self.bundle(&BundleParts {
            os_build_id: "none".into(),
            initramfs_build_id: None,
            artifacts,
        })?;
        let described = String::from_utf8_lossy(&described.to_json()?).into_owned();
        Ok(Some(json!({"bundle": described, "images": images})))
    }

    /// The disk that an update writes to, where the manifest says at which place the device has it: its
    /// partitions are found there by their labels or else by where they are, and by labels alone otherwise.
    fn stated_layout(&self, update: &StoneUpdate) -> Result<Option<Value>, StoneError> {
        let mut names = update
            .artifacts()
            .flat_map(|(_, _, a)| a.slot_partitions.values());
        let wanted: BTreeSet<&String> = names.by_ref().collect();
        let mut devices = self.storage_devices.iter().filter(|(_, device)| {
            let mut names = device.partitions.iter().filter_map(|p| p.name.as_ref());
            device.devpath.is_some() && names.any(|name| wanted.contains(name))
        });
        let Some((at, device)) = devices.next() else {
            return Ok(None);
        };
        if let Some((other, _)) = devices.next() {
            return Err(StoneError::invalid(
                format!("storage_devices.{other}.devpath"),
                format!("an update writes to one disk, and `{at}` has partitions of it too"),
            ));
        }
        let layout = device.layout(&format!("storage_devices.{at}"))?;
        let partitions = layout.partitions.iter().map(|partition| {
            json!({
                "name": partition.name,
                "offset": partition.offset,
                "size": partition.size,
                "expand": partition.expand,
            })
        });
        Ok(Some(json!({
            "device": device.devpath,
            "block_size": device.block_size,
            "partitions": partitions.collect::<Vec<_>>(),
        })))
    }

    fn check_room(&self, at: &str, partition: &str, file: &BundledFile) -> Result<(), StoneError> {
        for (name, device) in &self.storage_devices {
            let layout = device.layout(&format!("storage_devices.{name}"))?;
            let mut partitions = layout.partitions.iter();
            let found =
                partitions.find(|p| p.name.as_ref().is_some_and(|n| n.as_str() == partition));
            if let Some(found) = found
                && file.size > found.size
            {
                return Err(StoneError::invalid(
                    at,
                    format!(
                        "{} has {} bytes, and the partition `{}` has {}: make the partition larger, or the image smaller",
                        file.file,
                        file.size,
                        partition.escape_debug(),
                        found.size
                    ),
                ));
            }
        }
        Ok(())
    }
}
