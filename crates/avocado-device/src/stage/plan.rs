use std::collections::BTreeSet;

use avocado_manifest::Manifest;
use serde::Serialize;

use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::os_update;
use crate::os_update::chunked_bundle::ChunkedBundle;
use crate::os_update::plan::OsUpdatePlan;
use crate::store::pool::RequiredImage;

/// What adding a runtime comes to. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AddPlan {
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
    /// What the update of the operating system would do. None: none is needed, or its bundle is not on
    /// this device yet.
    pub os_update: Option<OsUpdatePlan>,
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
    /// Whether it is written to the other slot of the operating system while it comes, and not to the pool.
    pub streamed: bool,
}

impl PlannedImage {
    pub(super) fn shared(wanted: &RequiredImage, bytes: u64) -> Self {
        PlannedImage {
            label: wanted.label.clone(),
            file: wanted.file.clone(),
            bytes,
            fetch_bytes: 0,
            shared: true,
            streamed: false,
        }
    }
}

impl AddPlan {
    pub(super) fn new(
        context: &DeviceContext,
        manifest: Manifest,
        images: Vec<PlannedImage>,
        free_bytes: u64,
        streamed_os: Option<&ChunkedBundle>,
    ) -> Result<Self, FailureReason> {
        let runtimes = context.runtimes();
        let needed = context.os_mismatch(&manifest).is_some();
        let fetched = images.iter().filter(|i| !i.shared);
        let fetch_bytes = sum(fetched.map(|i| i.fetch_bytes));
        let to_disk = images.iter().filter(|i| !i.shared && !i.streamed);
        let disk_bytes = sum(to_disk.map(|i| i.fetch_bytes));
        let os_update = || match (streamed_os, &manifest.os_bundle) {
            (Some(bundle), Some(named)) => {
                Some(os_update::plan::plan_of_stream(context, named, bundle))
            }
            _ => os_update::plan::plan(context, &manifest),
        };
        let os_update = needed.then(os_update).flatten();
        let shared = images.iter().filter(|i| i.shared);
        Ok(AddPlan {
            staged: runtimes.read(&manifest.id).is_ok(),
            active: runtimes.active_id().ok().flatten().as_ref() == Some(&manifest.id),
            fetch_bytes,
            shared_bytes: sum(shared.map(|i| i.bytes)),
            disk_bytes,
            free_bytes,
            reboot: needed,
            relaxed: false,
            os_update,
            images,
            manifest,
        })
    }
}

/// Sizes are what a repository says, however large that is.
pub(super) fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// The images that a runtime needs, each once.
pub(super) fn distinct(manifest: &Manifest) -> Vec<RequiredImage> {
    let mut seen = BTreeSet::new();
    let mut all = RequiredImage::of(manifest);
    all.retain(|wanted| seen.insert(wanted.file.clone()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_disk_has_do_not_wrap() {
        assert_eq!(sum([u64::MAX, 2, u64::MAX].into_iter()), u64::MAX);
        assert_eq!(sum([1, 2].into_iter()), 3);
    }
}
