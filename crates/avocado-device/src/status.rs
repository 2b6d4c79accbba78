//! What runs on the device.

use avocado_manifest::{ImageId, Name, RuntimeExtension};
use serde::Serialize;

use crate::context::DeviceContext;
use crate::degraded::DegradedState;
use crate::enabled;
use crate::error::{DeviceError, FailureReason};
use crate::merge::release::ExtensionClass;
use crate::merge::state::{LayerImage, MergedExtension, MergedState};
use crate::merge::systemd::SystemdMerger;
use crate::os_release;
use crate::os_update::error::OsUpdateError;
use crate::os_update::failed_update::FailedUpdate;
use crate::os_update::health;
use crate::os_update::pending_update::PendingUpdate;
use crate::os_update::proof;
use crate::os_update::reboot_timer;
use crate::runtime_list::{self, RuntimeEntry};
use crate::store::standalone::StandaloneExtension;

/// What runs on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceStatus {
    /// The active runtime, if there is one.
    pub runtime: Option<RuntimeEntry>,
    /// The extensions of the active runtime in the order of its manifest, or without one those that
    /// are enabled; and after them what is merged without being one of these.
    pub extensions: Vec<ExtensionStatus>,
    /// `AVOCADO_OS_BUILD_ID` of the running operating system.
    pub os_build_id: Option<String>,
    /// Set where what should be merged cannot be, and something else is.
    pub degraded: Option<DegradedState>,
    /// The OS update that is written and waits for the reboot, or for its proof.
    pub pending_update: Option<PendingUpdate>,
    /// What an OS update that runs on trial waits for: units, or the path of a health check. None: no
    /// update is on trial.
    pub trial_waits_for: Option<String>,
    /// The time, as systemd has it, at which the device reboots by itself into the update that waits.
    pub reboots_at: Option<String>,
    /// The last OS update, where that failed.
    pub failed_update: Option<FailedUpdate>,
}

/// One extension, as it is on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExtensionStatus {
    /// The name.
    pub name: Name,
    /// The version. One that belongs to no runtime may have it in its name.
    pub version: Option<Name>,
    /// Whether it extends `/usr` and `/opt`; known once it is merged.
    pub sysext: bool,
    /// Whether it extends `/etc`; known once it is merged.
    pub confext: bool,
    /// Whether it is merged, according to systemd.
    pub merged: bool,
    /// What it is merged from: for example `Loop:app-1.0.0`, the name of the mount of an image
    /// below `/run/avocado/extensions`, or `Dir` for a directory.
    pub origin: Option<String>,
    /// The image, where the manifest names one.
    pub image_id: Option<ImageId>,
}

impl ExtensionStatus {
    /// One that is not merged.
    fn new(name: Name, version: Option<Name>, image_id: Option<ImageId>) -> Self {
        ExtensionStatus {
            name,
            version,
            sysext: false,
            confext: false,
            merged: false,
            origin: None,
            image_id,
        }
    }

    fn is_of(&self, image: &LayerImage) -> bool {
        (&self.name, &self.version, &self.image_id)
            == (&image.name, &image.version, &image.image_id)
    }
}

impl From<&RuntimeExtension> for ExtensionStatus {
    fn from(extension: &RuntimeExtension) -> Self {
        let RuntimeExtension {
            name,
            version,
            image_id,
            ..
        } = extension.clone();
        ExtensionStatus::new(name, Some(version), image_id)
    }
}

impl From<StandaloneExtension> for ExtensionStatus {
    fn from(named: StandaloneExtension) -> Self {
        ExtensionStatus::new(named.name, None, None)
    }
}

/// What runs on the device.
pub(crate) fn status(context: &DeviceContext) -> Result<DeviceStatus, DeviceError> {
    let state = MergedState::load(&context.paths.merged());
    let active = match context.runtimes().active() {
        // What is merged in its place is the answer, and that it cannot be read is a part of it.
        Err(_) if state.degraded.is_some() && !state.extensions.is_empty() => None,
        other => other.map_err(DeviceError::Store)?,
    };
    let on_trial = proof::runtime_on_trial(context);
    let wanted = match on_trial.as_ref().or(active.as_ref()) {
        Some(manifest) => manifest
            .extensions
            .iter()
            .map(ExtensionStatus::from)
            .collect(),
        None => {
            let enabled = enabled::enabled(context).map_err(DeviceError::Store)?;
            enabled.into_iter().map(ExtensionStatus::from).collect()
        }
    };
    // One that cannot be understood is neither waiting nor gone.
    let (pending, failed) = match PendingUpdate::load(context.base()) {
        Ok(Some(pending)) if !pending.names_a_slot() => (None, Some(OsUpdateError::Marker.into())),
        Ok(pending) => (pending, None),
        Err(reason) => (None, Some(reason)),
    };
    let failed = match failed {
        Some(reason) => Some(FailedUpdate::untold(&reason)),
        None => FailedUpdate::load(context.base()),
    };
    let on_trial = pending
        .as_ref()
        .is_some_and(|pending| pending.is_on_trial(&context.paths));
    Ok(DeviceStatus {
        trial_waits_for: on_trial.then(|| health::waits_for(context)),
        extensions: extensions(context, &state, wanted).map_err(DeviceError::Store)?,
        degraded: state.degraded,
        reboots_at: pending
            .as_ref()
            .filter(|pending| pending.is_of_this_boot(&context.paths))
            .and_then(|_| reboot_timer::scheduled(&context.config, &context.paths)),
        pending_update: pending,
        failed_update: failed,
        os_build_id: os_release::build_id(&context.paths),
        runtime: active.map(|manifest| {
            let mut entry = runtime_list::entry(context, manifest);
            entry.active = true;
            entry
        }),
    })
}

/// The extensions that are wanted, and those that are merged, with what systemd says about them.
fn extensions(
    context: &DeviceContext,
    state: &MergedState,
    wanted: Vec<ExtensionStatus>,
) -> Result<Vec<ExtensionStatus>, FailureReason> {
    let DeviceContext { config, paths, .. } = context;
    let names = |class, mutable| SystemdMerger::new(class, paths, mutable).merged();
    let (mut in_usr, mut in_etc) = Default::default();
    if !state.extensions.is_empty() {
        in_usr = names(ExtensionClass::Sysext, config.sysext_mutable)?;
        in_etc = names(ExtensionClass::Confext, config.confext_mutable)?;
    }
    let mut all = wanted;
    for MergedExtension {
        image,
        link,
        sysext,
        confext,
        ..
    } in &state.extensions
    {
        let at = all.iter().position(|status| status.is_of(image));
        let at = at.unwrap_or_else(|| {
            let image = image.clone();
            let status = ExtensionStatus::new(image.name, image.version, image.image_id);
            all.push(status);
            all.len() - 1
        });
        if let Some(status) = all.get_mut(at) {
            status.sysext = *sysext;
            status.confext = *confext;
            status.merged = (*sysext || *confext)
                && (!sysext || in_usr.contains(link))
                && (!confext || in_etc.contains(link));
            status.origin = Some(image.origin());
        }
    }
    Ok(all)
}
