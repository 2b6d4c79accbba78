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

    /// Whether a runtime needs another build of the operating system than the one that runs. One
    /// that names no build goes with any, and an operating system that names none takes any.
    pub(crate) fn os_mismatch(&self, manifest: &Manifest) -> Option<OsMismatch> {
        let needed = manifest.os_bundle.as_ref()?.os_build_id.clone()?;
        let running = os_release::build_id(&self.paths)?;
        (needed != running).then_some(OsMismatch { needed, running })
    }
}
