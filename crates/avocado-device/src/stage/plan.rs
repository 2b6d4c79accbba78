use std::collections::BTreeSet;

use avocado_manifest::Manifest;
use serde::Serialize;

use crate::store::files;
use crate::store::pool::Wanted;
use crate::{Device, Reason};

/// What adding a runtime comes to. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The runtime.
    pub manifest: Manifest,
    /// Whether it is staged already.
    pub staged: bool,
    /// Whether it is the active one already.
    pub active: bool,
    /// Its images, each once.
    pub images: Vec<PlannedImage>,
    /// What is to be fetched.
    pub fetch_bytes: u64,
    /// What is in the pool already.
    pub shared_bytes: u64,
    /// What is to be written to the disk.
    pub disk_bytes: u64,
    /// What is free on the disk.
    pub free_bytes: u64,
    /// Whether activating it needs another build of the operating system, and so a reboot.
    pub reboot: bool,
    /// Whether the repository is of the older layout, for which some rules are relaxed.
    pub relaxed: bool,
}

/// An image of a runtime that is to be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedImage {
    /// What it is, for people.
    pub label: String,
    /// Its name in the pool.
    pub file: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// What of it is to be fetched, in bytes: nothing when it is in the pool already.
    pub fetch_bytes: u64,
    /// Whether it is in the pool already.
    pub shared: bool,
}

impl PlannedImage {
    pub(super) fn shared(wanted: &Wanted, bytes: u64) -> Self {
        PlannedImage {
            label: wanted.label.clone(),
            file: wanted.file.clone(),
            bytes,
            fetch_bytes: 0,
            shared: true,
        }
    }
}

impl Plan {
    pub(super) fn new(
        device: &Device,
        manifest: Manifest,
        images: Vec<PlannedImage>,
    ) -> Result<Self, Reason> {
        let runtimes = device.runtimes();
        let fetched: Vec<_> = images.iter().filter(|i| !i.shared).collect();
        let fetch_bytes = fetched.iter().map(|i| i.fetch_bytes).sum();
        Ok(Plan {
            staged: runtimes.read(&manifest.id).is_ok(),
            active: runtimes.active_id().ok().flatten().as_ref() == Some(&manifest.id),
            fetch_bytes,
            shared_bytes: images.iter().filter(|i| i.shared).map(|i| i.bytes).sum(),
            disk_bytes: fetch_bytes,
            free_bytes: files::free(&device.paths().base)?,
            reboot: device.other_os(&manifest).is_some(),
            relaxed: false,
            images,
            manifest,
        })
    }
}

/// The images that a runtime needs, each once.
pub(super) fn distinct(manifest: &Manifest) -> Vec<Wanted> {
    let mut seen = BTreeSet::new();
    let mut all = Wanted::of(manifest);
    all.retain(|wanted| seen.insert(wanted.file.clone()));
    all
}
