use std::path::Path;

use avocado_events::{Cancel, Event, Sink};
use avocado_manifest::Manifest;

use crate::config::DeviceConfig;
use crate::error::FailureReason;
use crate::os_release;
use crate::paths::DevicePaths;
use crate::store::lock::{self, StoreLock};
use crate::store::manifest_cache::ManifestCache;
use crate::store::runtimes::RuntimeStore;

/// What everything that is done with a device stands on: its configuration, its paths, and what
/// this process remembers of its store.
#[derive(Debug, Clone)]
pub(crate) struct DeviceContext {
    pub(crate) config: DeviceConfig,
    pub(crate) paths: DevicePaths,
    manifests: ManifestCache,
}

/// A runtime was made for another build of the operating system than the one that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OsMismatch {
    pub(crate) needed: String,
    pub(crate) running: String,
}

impl DeviceContext {
    pub(crate) fn new(config: DeviceConfig, paths: DevicePaths) -> Self {
        DeviceContext {
            config,
            paths,
            manifests: ManifestCache::default(),
        }
    }

    /// The directory of the store.
    pub(crate) fn base(&self) -> &Path {
        &self.paths.base
    }

    pub(crate) fn runtimes(&self) -> RuntimeStore {
        RuntimeStore::new(self.base(), self.manifests.clone())
    }

    /// The lock of whatever changes the store.
    pub(crate) fn lock_store(
        &self,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<StoreLock, FailureReason> {
        lock::lock_store(self.base(), cancel, || {
            sink.emit(Event::info("waiting for another operation on this device"));
        })
    }

    /// The lock of whatever downloads, or changes what is trusted of repositories.
    pub(crate) fn lock_downloads(
        &self,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<StoreLock, FailureReason> {
        lock::lock_downloads(self.base(), cancel, || {
            sink.emit(Event::info("waiting for another download on this device"));
        })
    }

    /// Whether a runtime needs another build of the operating system, or of the initial RAM file
    /// system, than the one that runs. One that names no build goes with any. An operating system that
    /// names none is not taken for one that fits; an initial RAM file system that names none is not
    /// compared, because it comes in one bundle with the operating system.
    pub(crate) fn os_mismatch(&self, manifest: &Manifest) -> Option<OsMismatch> {
        let bundle = manifest.os_bundle.as_ref()?;
        if let Some(needed) = &bundle.os_build_id {
            let running = os_release::build_id(&self.paths);
            if running.as_ref() != Some(needed) {
                return Some(OsMismatch {
                    needed: format!("the OS build {needed}"),
                    running: running.unwrap_or_else(|| "one that does not say its build".into()),
                });
            }
        }
        let needed = bundle.initramfs_build_id.as_ref()?;
        let running = os_release::initramfs_build_id(&self.paths)?;
        (*needed != running).then(|| OsMismatch {
            needed: format!("the initramfs build {needed}"),
            running,
        })
    }
}
