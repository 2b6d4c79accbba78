use std::collections::BTreeMap;
use std::sync::Arc;

use avocado_events::{Cancel, Event, Sink};
use avocado_tuf::ForgetLevel;

use crate::activation::{self, Activation};
use crate::commit;
use crate::config::DeviceConfig;
use crate::context::DeviceContext;
#[cfg(doc)]
use crate::degraded::DegradedState;
use crate::enabled::{self, ExtensionSelection};
use crate::error::DeviceError;
use crate::extension_set;
use crate::extensions::{self, InstalledExtension};
use crate::hitl::{self, HitlRequest, HitlWatchEnd};
use crate::merge::MergeMode;
use crate::merging;
use crate::metadata;
use crate::os_update::trial::TrialEnd;
use crate::paths::DevicePaths;
use crate::runtime_list::{self, RuntimeEntry, RuntimeList};
use crate::stage::{self, AddPlan, AddRequest, RuntimeSource};
use crate::status::{self, DeviceStatus};
use crate::trust::{self, TrustedRepository};
use crate::upkeep::{self, PruneOptions, PruneReport, VerificationReport};

/// A device: the store, and what is merged from it.
///
/// Several values, in several threads and processes, may stand for the same device: whatever
/// changes it takes a lock and waits for it.
#[derive(Debug, Clone)]
pub struct Device {
    context: DeviceContext,
}

/// What adding a runtime came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It is in the store, whole.
    Staged(RuntimeEntry),
    /// It was activated as well, as the configuration wants it.
    Activated(Activation),
}

impl Added {
    /// The runtime.
    pub fn runtime(&self) -> &RuntimeEntry {
        match self {
            Added::Staged(runtime) => runtime,
            Added::Activated(activation) => activation.runtime(),
        }
    }
}

impl Device {
    /// The device on which this program runs.
    pub fn new(config: DeviceConfig) -> Self {
        let paths = DevicePaths::new(&config.base);
        Device::with_paths(config, paths)
    }

    /// A device with other paths than the usual ones. `paths.base` counts, not `config.base`.
    pub fn with_paths(config: DeviceConfig, paths: DevicePaths) -> Self {
        Device {
            context: DeviceContext::new(config, paths),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &DeviceConfig {
        &self.context.config
    }

    /// The paths.
    pub fn paths(&self) -> &DevicePaths {
        &self.context.paths
    }

    /// What the tests inside of this crate look at.
    #[cfg(test)]
    pub(crate) fn context(&self) -> &DeviceContext {
        &self.context
    }

    /// Every runtime: the active one first, then the one built last. [`Device::listing`] has those
    /// as well that cannot be used.
    ///
    /// # Errors
    /// When the store cannot be read. An `active` that leads nowhere is not one: no runtime is
    /// active then.
    pub fn list(&self) -> Result<Vec<RuntimeEntry>, DeviceError> {
        Ok(self.listing()?.runtimes)
    }

    /// Every runtime, and what lies among them and cannot be used.
    ///
    /// # Errors
    /// As [`Device::list`].
    pub fn listing(&self) -> Result<RuntimeList, DeviceError> {
        runtime_list::list(&self.context)
    }

    /// A runtime by its id or the beginning of it, or the active one.
    ///
    /// # Errors
    /// [`DeviceError::RuntimeNotFound`], [`DeviceError::AmbiguousRuntimeId`], or
    /// [`DeviceError::Store`] when the store or the runtime cannot be read, or `active` leads
    /// nowhere.
    pub fn inspect(&self, id: Option<&str>) -> Result<RuntimeEntry, DeviceError> {
        runtime_list::inspect(&self.context, id)
    }

    /// What runs on the device.
    ///
    /// # Errors
    /// [`DeviceError::Store`] when the store cannot be read, `active` leads nowhere and nothing is
    /// merged in its place, or systemd does not say what is merged.
    pub fn status(&self) -> Result<DeviceStatus, DeviceError> {
        status::status(&self.context)
    }

    /// Stages a runtime. Adding what is there already is a success, and repairs it where it is
    /// damaged. Where the configuration wants it, runtimes that are too many then are removed.
    ///
    /// # Errors
    /// [`DeviceError::NoTrustAnchor`], [`DeviceError::Staging`], and those of
    /// [`Device::activate`] where the configuration lets adding activate.
    pub fn add(
        &self,
        source: RuntimeSource<'_>,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<Added, DeviceError> {
        let _span = state_change("add", "");
        let (manifest, lock) = stage::add(&self.context, source, cancel, sink)?;
        let manifest = Arc::new(manifest);
        let added = if self.config().activate_on_add {
            let manifest = manifest.clone();
            Added::Activated(activation::activate_locked(
                &self.context,
                manifest,
                &lock,
                sink,
            )?)
        } else {
            Added::Staged(runtime_list::entry(&self.context, manifest.clone()))
        };
        drop(lock);
        if self.config().auto_gc
            && let Err(error) = upkeep::make_room(&self.context, &manifest.id, cancel, sink)
        {
            let why = avocado_events::chain(&error);
            sink.emit(Event::warning(format!(
                "older runtimes were not removed: {why}"
            )));
        }
        Ok(added)
    }

    /// Says what adding a runtime would do, and does nothing of it; the repository's metadata and
    /// the manifest are fetched and checked.
    ///
    /// # Errors
    /// [`DeviceError::NoTrustAnchor`] and [`DeviceError::Staging`].
    pub fn plan(
        &self,
        source: RuntimeSource<'_>,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<AddPlan, DeviceError> {
        stage::plan(&self.context, source, cancel, sink)
    }

    /// Downloads the images of a runtime into the pool, and does not stage it: adding it later
    /// needs little more than the manifest. Until then no runtime needs the images, so pruning
    /// removes them. Returns what was done.
    ///
    /// # Errors
    /// [`DeviceError::NoTrustAnchor`] and [`DeviceError::Staging`].
    pub fn download(
        &self,
        request: &AddRequest,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<AddPlan, DeviceError> {
        stage::download(&self.context, request, cancel, sink)
    }

    /// Makes a runtime the active one and merges its extensions. It becomes active once everything
    /// has shown that it can be merged; if it is not all the same, the runtime that was active
    /// before is active again. Where an update of the operating system for
    /// it is written and waits for the reboot, nothing is changed.
    ///
    /// # Errors
    /// [`DeviceError::RuntimeNotFound`], [`DeviceError::AmbiguousRuntimeId`], and
    /// [`DeviceError::Update`] for everything that goes wrong afterwards.
    pub fn activate(&self, id: &str, sink: &dyn Sink) -> Result<Activation, DeviceError> {
        let _span = state_change("activate", id);
        activation::activate(&self.context, id, sink)
    }

    /// Activates the runtime that was active before the active one, and still exists.
    ///
    /// # Errors
    /// [`DeviceError::NoPreviousRuntime`], and [`DeviceError::Update`] as in [`Device::activate`].
    pub fn rollback(&self, sink: &dyn Sink) -> Result<Activation, DeviceError> {
        let _span = state_change("rollback", "");
        activation::roll_back(&self.context, sink)
    }

    /// What a service does when it starts: brings the store into the state that this version keeps
    /// it in, and finishes an activation that was cut off after `active` had moved: what is merged then
    /// belongs to another runtime. Does nothing in any other state, above all where nothing is
    /// merged yet; returns whether it had to.
    ///
    /// # Errors
    /// As [`Device::merge`].
    pub fn finish_activation(&self, sink: &dyn Sink) -> Result<bool, DeviceError> {
        upkeep::settle_unlocked(&self.context, sink);
        activation::finish(&self.context, sink)
    }

    /// Merges the extensions of the active runtime, unless that is done already. Without an active
    /// runtime those are merged that are enabled ([`Device::enable`]); where there are none, that
    /// is a success.
    ///
    /// Where that cannot be done and nothing is merged, as at a boot, the runtime that was active
    /// before is merged, or else all that can be: `active` stays as it is, and the device is
    /// [degraded](DegradedState) until something is merged as it should be.
    ///
    /// # Errors
    /// [`DeviceError::Merge`]; what was merged before is merged still, if the error says so.
    /// [`DeviceError::Degraded`] where something else is merged.
    pub fn merge(&self, sink: &dyn Sink) -> Result<(), DeviceError> {
        let _span = state_change("merge", "");
        merging::merge(&self.context, MergeMode::IfNeeded, sink)
    }

    /// Merges the same extensions anew, in the place of what is merged.
    ///
    /// # Errors
    /// As [`Device::merge`].
    pub fn refresh(&self, sink: &dyn Sink) -> Result<(), DeviceError> {
        let _span = state_change("refresh", "");
        merging::merge(&self.context, MergeMode::Always, sink)
    }

    /// Asks for the health of a system that is on trial after an OS update, as the service does that the
    /// merge of its boot starts: waits for the boot to come to its end, and runs the health checks of the
    /// system, all within the time that the configuration gives. Commits the update, or goes back.
    ///
    /// # Errors
    /// [`DeviceError::Trial`]: what is not well, where the device goes back; or why that could not be done,
    /// or not be decided.
    pub fn end_trial(&self, sink: &dyn Sink) -> Result<TrialEnd, DeviceError> {
        let _span = state_change("commit", "");
        commit::commit(&self.context, sink).map_err(DeviceError::Trial)
    }

    /// Unmerges everything that we merged. The images stay mounted, so that merging them again is
    /// quick, unless `unmount` is set.
    ///
    /// # Errors
    /// [`DeviceError::Unmerge`].
    pub fn unmerge(&self, unmount: bool, sink: &dyn Sink) -> Result<(), DeviceError> {
        let _span = state_change("unmerge", "");
        merging::unmerge(&self.context, unmount, sink)
    }

    /// Mounts extensions from the machine where they are written and merges them in the place of
    /// their images, with the same rank. All of them are mounted, or none.
    ///
    /// # Errors
    /// [`DeviceError::HitlMount`].
    pub fn hitl_mount(&self, request: &HitlRequest, sink: &dyn Sink) -> Result<(), DeviceError> {
        let _span = state_change("hitl mount", "");
        hitl::mount(&self.context, request, sink)
    }

    /// Merges the images of extensions again that are mounted from a server, and unmounts them.
    ///
    /// # Errors
    /// [`DeviceError::HitlUnmount`].
    pub fn hitl_unmount(&self, extensions: &[String], sink: &dyn Sink) -> Result<(), DeviceError> {
        let _span = state_change("hitl unmount", "");
        hitl::unmount(&self.context, extensions, sink)
    }

    /// Watches the servers of what is mounted until nothing is, or `cancel` asks to stop: what a
    /// server has changed is merged anew within about a second, and where one is gone the images are
    /// merged again, at most five seconds after its last answer and the time of a merge.
    ///
    /// # Errors
    /// [`DeviceError::HitlUnmount`] where the images cannot be merged, [`DeviceError::Store`] where
    /// what is mounted cannot be written down.
    pub fn hitl_watch(
        &self,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<HitlWatchEnd, DeviceError> {
        hitl::watch(&self.context, cancel, sink)
    }

    /// The extensions of the active runtime that are on the device, in its order, and then what
    /// else has a name in the pool and can be enabled.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn extensions(&self) -> Result<Vec<InstalledExtension>, DeviceError> {
        let status = self.status()?;
        extensions::installed(&self.context, status.extensions)
    }

    /// Marks extensions of the pool as wanted with a release of the operating system, the one that
    /// runs unless another one is named: [`Device::merge`] merges them where no runtime is active.
    /// Returns how many they are. Where one of them does not exist, nothing is changed.
    ///
    /// # Errors
    /// [`DeviceError::ExtensionNotFound`], [`DeviceError::Release`], or [`DeviceError::Store`].
    pub fn enable(
        &self,
        names: &[String],
        release: Option<&str>,
        sink: &dyn Sink,
    ) -> Result<u64, DeviceError> {
        enabled::enable(&self.context, names, release, sink)
    }

    /// Ends what [`Device::enable`] did, also where the extension does not exist any more. Returns
    /// how many there were. Where one of them is not enabled, nothing is changed.
    ///
    /// # Errors
    /// As [`Device::enable`].
    pub fn disable(
        &self,
        which: ExtensionSelection<'_>,
        release: Option<&str>,
        sink: &dyn Sink,
    ) -> Result<u64, DeviceError> {
        enabled::disable(&self.context, which, release, sink)
    }

    /// Decides for extensions of the active runtime whether they are merged, from the next merge on and
    /// whatever its manifest says; it lasts as long as the runtime is on the device. Each is called
    /// by its name, or by its name and version (`app-1.0`). Returns how many they are. Where one of
    /// them is not in the runtime, nothing is changed.
    ///
    /// # Errors
    /// [`DeviceError::ExtensionNotFound`], [`DeviceError::NoActiveRuntime`], or
    /// [`DeviceError::Store`].
    pub fn set_extensions_enabled(
        &self,
        names: &[String],
        enabled: bool,
        sink: &dyn Sink,
    ) -> Result<u64, DeviceError> {
        extension_set::set_enabled(&self.context, names, enabled, sink)
    }

    /// What others keep of a runtime: texts by their keys. The device makes nothing of them.
    ///
    /// # Errors
    /// [`DeviceError::RuntimeNotFound`], [`DeviceError::AmbiguousRuntimeId`], or
    /// [`DeviceError::Store`].
    pub fn metadata(&self, id: &str) -> Result<BTreeMap<String, String>, DeviceError> {
        metadata::list(&self.context, id)
    }

    /// What is kept of a runtime under a key.
    ///
    /// # Errors
    /// [`DeviceError::MetadataKeyNotFound`], and as [`Device::metadata`].
    pub fn metadata_of_key(&self, id: &str, key: &str) -> Result<String, DeviceError> {
        metadata::get(&self.context, id, key)
    }

    /// Keeps a text of a runtime under a key, or with `None` nothing any more. It goes with the runtime.
    ///
    /// # Errors
    /// [`DeviceError::MetadataKeyNotFound`] where there is nothing to remove, and as
    /// [`Device::metadata`].
    pub fn set_metadata(
        &self,
        id: &str,
        key: &str,
        value: Option<&str>,
        sink: &dyn Sink,
    ) -> Result<(), DeviceError> {
        metadata::set(&self.context, id, key, value, sink)
    }

    /// Removes a runtime. The images stay in the pool, where others may use them, until
    /// [`Device::prune`]. One that cannot be read is removed by its full id.
    ///
    /// # Errors
    /// [`DeviceError::RuntimeNotFound`], [`DeviceError::AmbiguousRuntimeId`],
    /// [`DeviceError::RemoveActiveRuntime`], [`DeviceError::RemovePinnedRuntime`], or
    /// [`DeviceError::Store`].
    pub fn remove(&self, id: &str, sink: &dyn Sink) -> Result<(), DeviceError> {
        let _span = state_change("remove", id);
        upkeep::remove(&self.context, id, sink)
    }

    /// Keeps a runtime from being removed, by any process, until [`Device::unpin`].
    ///
    /// # Errors
    /// [`DeviceError::RuntimeNotFound`], [`DeviceError::AmbiguousRuntimeId`], or
    /// [`DeviceError::Store`].
    pub fn pin(&self, id: &str, sink: &dyn Sink) -> Result<RuntimeEntry, DeviceError> {
        upkeep::set_pinned(&self.context, id, true, sink)
    }

    /// Ends what [`Device::pin`] did. A success also where nothing was pinned.
    ///
    /// # Errors
    /// As [`Device::pin`].
    pub fn unpin(&self, id: &str, sink: &dyn Sink) -> Result<RuntimeEntry, DeviceError> {
        upkeep::set_pinned(&self.context, id, false, sink)
    }

    /// Removes what is not needed any more: runtimes, if `options` says how many to keep; images
    /// that no runtime needs; what interrupted work has left. While a download is running, and
    /// while a runtime cannot be read (it may need any of them), images are spared.
    ///
    /// # Errors
    /// [`DeviceError::Store`]. Also when `active` leads nowhere: then nothing is removed.
    pub fn prune(
        &self,
        options: &PruneOptions,
        sink: &dyn Sink,
    ) -> Result<PruneReport, DeviceError> {
        let _span = state_change("prune", "");
        upkeep::prune(&self.context, options, sink)
    }

    /// As [`Device::prune`], with as many runtimes to keep as the configuration says.
    ///
    /// # Errors
    /// As [`Device::prune`].
    pub fn collect_garbage(&self, sink: &dyn Sink) -> Result<PruneReport, DeviceError> {
        let options = PruneOptions {
            keep: Some(self.config().runtime_retention),
            ..PruneOptions::default()
        };
        self.prune(&options, sink)
    }

    /// Reads every image again, whatever was remembered of it, and compares it with what the
    /// manifests say. Adding a runtime again repairs what is missing or corrupt.
    ///
    /// # Errors
    /// [`DeviceError::Store`] when the store cannot be read, or the caller asked to stop. What is
    /// wrong with the images is no error.
    pub fn verify(
        &self,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<VerificationReport, DeviceError> {
        upkeep::verify(&self.context, cancel, sink).map_err(DeviceError::Store)
    }

    /// The root that this device trusts, as bytes: the newest that replaced its trust anchor, at
    /// whichever repository, or the anchor itself; none where it has none. Nothing is verified to
    /// tell it.
    ///
    /// # Errors
    /// [`DeviceError::Store`] when it cannot be read.
    pub fn trusted_root(&self) -> Result<Option<Vec<u8>>, DeviceError> {
        trust::root(&self.context).map_err(DeviceError::Store)
    }

    /// The repositories of which something is trusted, by URL.
    ///
    /// # Errors
    /// [`DeviceError::Store`].
    pub fn repositories(&self) -> Result<Vec<TrustedRepository>, DeviceError> {
        trust::repositories(&self.context)
    }

    /// Forgets what is trusted of a repository, so that one that was set up anew at the same URL is
    /// accepted again: see [`avocado_tuf::client`] for what is given up with it. The trust anchor
    /// and the roots that followed it stay. Returns whether there was anything.
    ///
    /// # Errors
    /// [`DeviceError::Store`].
    pub fn forget_repository(
        &self,
        url: &str,
        forget: ForgetLevel,
        sink: &dyn Sink,
    ) -> Result<bool, DeviceError> {
        trust::forget(&self.context, url, forget, sink)
    }

    /// The runtime that was active before the active one, and still exists.
    #[cfg(test)]
    pub(crate) fn previous(&self) -> Option<avocado_manifest::RuntimeId> {
        runtime_list::previous(&self.context)
    }
}

/// The span of work that changes what the device holds or runs, with its beginning told.
fn state_change(change: &'static str, runtime: &str) -> tracing::span::EnteredSpan {
    let span = tracing::info_span!("state_change", change, runtime).entered();
    tracing::debug!("begins");
    span
}
