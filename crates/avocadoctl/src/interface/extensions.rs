//! The types of org.avocado.Extensions.

use avocado_device::{Device, DeviceError, ExtensionSelection};
use avocado_events::Sink;
use serde::{Deserialize, Serialize};

use super::Runtime;

/// `Extension`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Extension {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) version: Option<String>,
    pub(crate) path: String,
    pub(crate) is_sysext: bool,
    pub(crate) is_confext: bool,
    pub(crate) is_directory: bool,
}

/// `ExtensionStatus`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExtensionStatus {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) version: Option<String>,
    pub(crate) is_sysext: bool,
    pub(crate) is_confext: bool,
    pub(crate) is_merged: bool,
    #[serde(default)]
    pub(crate) origin: Option<String>,
    #[serde(default)]
    pub(crate) image_id: Option<String>,
}

impl From<avocado_device::InstalledExtension> for Extension {
    fn from(extension: avocado_device::InstalledExtension) -> Self {
        Extension {
            name: extension.name.into(),
            version: extension.version.map(Into::into),
            path: extension.path.display().to_string(),
            is_sysext: extension.sysext,
            is_confext: extension.confext,
            is_directory: extension.directory,
        }
    }
}

impl From<avocado_device::ExtensionStatus> for ExtensionStatus {
    fn from(status: avocado_device::ExtensionStatus) -> Self {
        ExtensionStatus {
            name: status.name.into(),
            version: status.version.map(Into::into),
            is_sysext: status.sysext,
            is_confext: status.confext,
            is_merged: status.merged,
            origin: status.origin,
            image_id: status.image_id.map(Into::into),
        }
    }
}

/// The result of `List`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExtensionListReply {
    pub(crate) extensions: Vec<Extension>,
}

impl From<Vec<avocado_device::InstalledExtension>> for ExtensionListReply {
    fn from(all: Vec<avocado_device::InstalledExtension>) -> Self {
        ExtensionListReply {
            extensions: all.into_iter().map(Extension::from).collect(),
        }
    }
}

/// The result of `Status`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusReply {
    pub(crate) extensions: Vec<ExtensionStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) os_build_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) degraded: Option<Degraded>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) os_update: Option<OsUpdate>,
}

/// `OsUpdate`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OsUpdate {
    pub(crate) state: OsUpdateState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) runtime_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) os_build_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reboot_argument: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waits_for: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reboots_at: Option<String>,
}

/// What an update of the OS came to so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum OsUpdateState {
    /// It is written, and waits for the reboot or for its proof.
    Waiting,
    /// It runs, and its health decides.
    OnTrial,
    /// It failed.
    Failed,
    /// What a later service says.
    #[serde(other)]
    Other,
}

impl OsUpdate {
    /// What waits is told before what has failed.
    fn of(status: &avocado_device::DeviceStatus) -> Option<Self> {
        let failed = status.failed_update.as_ref().map(|failed| OsUpdate {
            state: OsUpdateState::Failed,
            runtime_id: failed.runtime_id.clone().map(Into::into),
            os_build_id: failed.os_build_id.clone(),
            why: Some(failed.why.clone()),
            reboot_argument: None,
            waits_for: None,
            reboots_at: None,
        });
        let waiting = status.pending_update.as_ref().map(|pending| OsUpdate {
            state: match status.trial_waits_for {
                Some(_) => OsUpdateState::OnTrial,
                None => OsUpdateState::Waiting,
            },
            runtime_id: pending.runtime_id.clone().map(Into::into),
            os_build_id: pending.os_build_id.clone(),
            // What kept it from being settled after the reboot.
            why: status
                .failed_update
                .as_ref()
                .filter(|failed| failed.runtime_id == pending.runtime_id)
                .map(|failed| failed.why.clone()),
            reboot_argument: pending.reboot_argument.clone(),
            waits_for: status.trial_waits_for.clone(),
            reboots_at: status.reboots_at.clone(),
        });
        waiting.or(failed)
    }
}

/// `Degraded`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Degraded {
    #[serde(default)]
    pub(crate) wanted: Option<String>,
    #[serde(default)]
    pub(crate) merged: Option<String>,
    pub(crate) left_out: Vec<String>,
    pub(crate) why: String,
}

impl From<avocado_device::DegradedState> for Degraded {
    fn from(state: avocado_device::DegradedState) -> Self {
        Degraded {
            wanted: state.wanted.map(Into::into),
            merged: state.merged.map(Into::into),
            left_out: state.left_out,
            why: state.why,
        }
    }
}

impl From<avocado_device::DeviceStatus> for StatusReply {
    fn from(status: avocado_device::DeviceStatus) -> Self {
        let os_update = OsUpdate::of(&status);
        let extensions = status.extensions.into_iter().map(ExtensionStatus::from);
        StatusReply {
            os_update,
            extensions: extensions.collect(),
            os_build_id: status.os_build_id,
            degraded: status.degraded.map(Degraded::from),
        }
    }
}

/// The parameters of `Enable`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnableParameters {
    pub(crate) extensions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) os_release: Option<String>,
}

/// The result of `Enable`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EnableReply {
    pub(crate) enabled: u64,
    /// As published. One that fails is an error, with the reason.
    pub(crate) failed: u64,
}

impl EnableParameters {
    pub(crate) fn run(&self, device: &Device, sink: &dyn Sink) -> Result<EnableReply, DeviceError> {
        let enabled = device.enable(&self.extensions, self.os_release.as_deref(), sink)?;
        Ok(EnableReply { enabled, failed: 0 })
    }
}

/// The parameters of `SetEnabled`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetEnabledParameters {
    pub(crate) extensions: Vec<String>,
    pub(crate) enabled: bool,
}

/// The result of `SetEnabled`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SetEnabledReply {
    pub(crate) updated: u64,
    /// As published. One that is missing is an error, with its name.
    pub(crate) missing: u64,
}

impl SetEnabledParameters {
    pub(crate) fn run(
        &self,
        device: &Device,
        sink: &dyn Sink,
    ) -> Result<SetEnabledReply, DeviceError> {
        let updated = device.set_extensions_enabled(&self.extensions, self.enabled, sink)?;
        let missing = 0;
        Ok(SetEnabledReply { updated, missing })
    }
}

/// The parameters of `Disable`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DisableParameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) extensions: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) all: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) os_release: Option<String>,
}

/// The result of `Disable`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DisableReply {
    pub(crate) disabled: u64,
    /// As with [`Enabled`].
    pub(crate) failed: u64,
}

impl DisableParameters {
    pub(crate) fn run(
        &self,
        device: &Device,
        sink: &dyn Sink,
    ) -> Result<DisableReply, DeviceError> {
        let which = match self.all {
            Some(true) => ExtensionSelection::All,
            _ => ExtensionSelection::Named(self.extensions.as_deref().unwrap_or_default()),
        };
        let disabled = device.disable(which, self.os_release.as_deref(), sink)?;
        Ok(DisableReply {
            disabled,
            failed: 0,
        })
    }
}

/// What `avocadoctl status` tells.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceStatus {
    pub(crate) runtime: Option<Runtime>,
    pub(crate) os_build_id: Option<String>,
    pub(crate) degraded: Option<Degraded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) os_update: Option<OsUpdate>,
    pub(crate) extensions: Vec<ExtensionStatus>,
}
