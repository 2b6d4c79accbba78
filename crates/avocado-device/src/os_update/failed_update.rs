//! Why the last update of the operating system failed: `<base>/failed-update.json`.

use std::fs;
use std::path::{Path, PathBuf};

use avocado_manifest::RuntimeId;
use serde::{Deserialize, Serialize};

use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::os_release;
use crate::paths::DevicePaths;
use crate::store::files;
use crate::store::reserve::with_reserve;

/// The largest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// The longest reason that is kept, in characters.
const LONGEST: usize = 2000;

/// An update of the operating system that failed after it had been written. It is told until another
/// one begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailedUpdate {
    /// The runtime that it was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_id: Option<RuntimeId>,
    /// The build of the operating system that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_build_id: Option<String>,
    /// What went wrong, for people.
    pub why: String,
    /// The boot in which the device went back. Until another one, the slot that failed may still run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

impl FailedUpdate {
    pub(super) fn new(
        runtime_id: Option<RuntimeId>,
        os_build_id: Option<String>,
        why: &str,
        boot_id: Option<String>,
    ) -> Self {
        FailedUpdate {
            runtime_id,
            os_build_id,
            why: why.chars().take(LONGEST).collect(),
            boot_id,
        }
    }

    /// A marker is there that tells nothing.
    pub(crate) fn untold(reason: &FailureReason) -> Self {
        FailedUpdate::new(None, None, &avocado_events::chain(reason), None)
    }

    /// The failure that is told in the store at `base`. One that cannot be read is none: it decides
    /// nothing.
    pub(crate) fn load(base: &Path) -> Option<Self> {
        let bytes = files::read(&path(base), LIMIT).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps it, on a full disk too. What was kept of the same update stays the reason: it was there
    /// when the update failed, and what comes after that follows from it.
    pub(super) fn save(mut self, base: &Path) -> Result<(), FailureReason> {
        let same = |kept: &FailedUpdate| {
            (&kept.runtime_id, &kept.os_build_id) == (&self.runtime_id, &self.os_build_id)
        };
        if let Some(kept) = FailedUpdate::load(base).filter(same) {
            self.why = kept.why;
        }
        with_reserve(base, || files::write_json(&path(base), &self))
    }

    pub(super) fn forget(base: &Path) -> Result<(), FailureReason> {
        files::remove(&path(base))
    }
}

/// Notes that the system that runs has failed, and will be left at the next boot. This is for as long as the
/// device runs, and takes no room on a disk.
pub(super) fn note_running(paths: &DevicePaths) {
    if let Some(boot_id) = os_release::boot_id(paths) {
        let _ = fs::create_dir_all(&paths.run);
        let _ = fs::write(noted_in(paths), boot_id);
    }
}

/// It has not, after all.
pub(super) fn forget_running(paths: &DevicePaths) {
    let _ = fs::remove_file(noted_in(paths));
}

/// Whether the device has gone back from the system that runs, and was not started since.
pub(crate) fn runs_still(context: &DeviceContext) -> bool {
    let boot_id = os_release::boot_id(&context.paths);
    let noted = fs::read_to_string(noted_in(&context.paths)).ok();
    let kept = || FailedUpdate::load(context.base()).and_then(|failed| failed.boot_id);
    boot_id.is_some() && (noted == boot_id || kept() == boot_id)
}

fn noted_in(paths: &DevicePaths) -> PathBuf {
    paths.run.join("os-failed")
}

fn path(base: &Path) -> PathBuf {
    base.join("failed-update.json")
}
