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

    /// Whether a runtime is known to need another operating system than the one that runs. At a boot
    /// extensions that may fit are better than none, so one that names no build is no reason here.
    pub(crate) fn is_other_os(&self, manifest: &Manifest) -> bool {
        os_release::build_id(&self.paths).is_some() && self.os_mismatch(manifest).is_some()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_os_that_names_no_build_is_refused_by_an_activation_and_not_at_a_boot() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = DevicePaths::new(dir.path());
        let release = dir.path().join("os-release");
        paths.os_release = vec![release.clone()];
        paths.initrd_release = dir.path().join("none");
        paths.os.initramfs_build_id = dir.path().join("none");
        let context = DeviceContext::new(DeviceConfig::default(), paths);
        let text = serde_json::json!({
            "manifest_version": 2, "id": "r1", "built_at": "",
            "runtime": {"name": "x", "version": "1"},
            "os_bundle": {"image_id": "x", "os_build_id": "mine"},
        });
        let manifest = Manifest::parse(text.to_string().as_bytes()).unwrap();
        for (says, mismatch, other) in [
            ("ID=x\n", true, false),
            ("AVOCADO_OS_BUILD_ID=mine\n", false, false),
            ("AVOCADO_OS_BUILD_ID=other\n", true, true),
        ] {
            std::fs::write(&release, says).unwrap();
            assert_eq!(context.os_mismatch(&manifest).is_some(), mismatch, "{says}");
            assert_eq!(context.is_other_os(&manifest), other, "{says}");
        }
    }
}
