//! org.avocado.Extensions and org.avocado.RootAuthority by either way.

use avocado_device::{Device, DeviceError, ForgetLevel};
use avocado_events::Sink;
use serde_json::{Value, json};

use super::DeviceAccess;
use crate::failure::Failure;
use crate::interface::{
    DeviceStatus, DisableParameters, DisableReply, EnableParameters, EnableReply, Extension,
    ExtensionListReply, ForgetReply, RootAuthority, SetEnabledParameters, SetEnabledReply,
    ShowReply, StatusReply, forget_word,
};
use crate::progress::ProgressPrinter;
use crate::trust_anchor;

/// What is done with the extensions of the active runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeAction {
    Merge,
    Unmerge {
        /// And unmount the images.
        unmount: bool,
    },
    Refresh,
}

impl MergeAction {
    /// The work itself.
    pub(crate) fn run(self, device: &Device, sink: &dyn Sink) -> Result<(), DeviceError> {
        match self {
            MergeAction::Merge => device.merge(sink),
            MergeAction::Unmerge { unmount } => device.unmerge(unmount, sink),
            MergeAction::Refresh => device.refresh(sink),
        }
    }

    /// The parameters of the method.
    fn parameters(self) -> Value {
        match self {
            MergeAction::Unmerge { unmount: true } => json!({"unmount": true}),
            _ => json!({}),
        }
    }

    /// The method of the interface.
    pub(crate) fn method(self) -> &'static str {
        match self {
            MergeAction::Merge => "Merge",
            MergeAction::Unmerge { .. } => "Unmerge",
            MergeAction::Refresh => "Refresh",
        }
    }
}

impl DeviceAccess {
    pub(crate) fn merge(
        self,
        action: MergeAction,
        progress: &ProgressPrinter,
    ) -> Result<(), Failure> {
        match self {
            DeviceAccess::Direct(device) => {
                let done = action.run(&device, progress);
                done.map_err(|error| Failure::of_extensions(&error, action.method()))
            }
            DeviceAccess::Service(client) => {
                let method = format!("org.avocado.Extensions.{}", action.method());
                DeviceAccess::stream(client, &method, &action.parameters(), progress).map(drop)
            }
        }
    }

    pub(crate) fn extensions(&mut self) -> Result<Vec<Extension>, Failure> {
        match self {
            DeviceAccess::Direct(device) => {
                let all = device.extensions();
                let all = all.map_err(|error| Failure::of_extensions(&error, "List"))?;
                Ok(ExtensionListReply::from(all).extensions)
            }
            DeviceAccess::Service(client) => {
                let method = "org.avocado.Extensions.List";
                Ok(
                    DeviceAccess::call::<ExtensionListReply>(client, method, &json!({}))?
                        .extensions,
                )
            }
        }
    }

    pub(crate) fn statuses(&mut self) -> Result<StatusReply, Failure> {
        match self {
            DeviceAccess::Direct(device) => device
                .status()
                .map(StatusReply::from)
                .map_err(|error| Failure::of_extensions(&error, "Status")),
            DeviceAccess::Service(client) => {
                DeviceAccess::call(client, "org.avocado.Extensions.Status", &json!({}))
            }
        }
    }

    pub(crate) fn status(&mut self) -> Result<DeviceStatus, Failure> {
        let statuses = self.statuses()?;
        let runtime = match self.active() {
            // That it cannot be read is what the state is about.
            Err(_) if statuses.degraded.is_some() => None,
            other => other?,
        };
        Ok(DeviceStatus {
            runtime,
            os_build_id: statuses.os_build_id,
            degraded: statuses.degraded,
            os_update: statuses.os_update,
            extensions: statuses.extensions,
        })
    }

    pub(crate) fn enable(
        &mut self,
        request: &EnableParameters,
        progress: &ProgressPrinter,
    ) -> Result<EnableReply, Failure> {
        match self {
            DeviceAccess::Direct(device) => request
                .run(device, progress)
                .map_err(|error| Failure::of_extensions(&error, "Enable")),
            DeviceAccess::Service(client) => {
                DeviceAccess::call(client, "org.avocado.Extensions.Enable", request)
            }
        }
    }

    pub(crate) fn disable(
        &mut self,
        request: &DisableParameters,
        progress: &ProgressPrinter,
    ) -> Result<DisableReply, Failure> {
        match self {
            DeviceAccess::Direct(device) => request
                .run(device, progress)
                .map_err(|error| Failure::of_extensions(&error, "Disable")),
            DeviceAccess::Service(client) => {
                DeviceAccess::call(client, "org.avocado.Extensions.Disable", request)
            }
        }
    }

    pub(crate) fn set_enabled(
        &mut self,
        request: &SetEnabledParameters,
        progress: &ProgressPrinter,
    ) -> Result<SetEnabledReply, Failure> {
        match self {
            DeviceAccess::Direct(device) => request
                .run(device, progress)
                .map_err(|error| Failure::of_extensions(&error, "SetEnabled")),
            DeviceAccess::Service(client) => {
                DeviceAccess::call(client, "org.avocado.Extensions.SetEnabled", request)
            }
        }
    }

    pub(crate) fn root_authority(&mut self) -> Result<Option<RootAuthority>, Failure> {
        match self {
            DeviceAccess::Direct(device) => Ok(trust_anchor::show(device)?),
            DeviceAccess::Service(client) => {
                let method = "org.avocado.RootAuthority.Show";
                Ok(DeviceAccess::call::<ShowReply>(client, method, &json!({}))?.authority)
            }
        }
    }

    pub(crate) fn forget(&mut self, url: &str, what: ForgetLevel) -> Result<ForgetReply, Failure> {
        match self {
            DeviceAccess::Direct(device) => {
                let known = trust_anchor::forget(device, url, what)?;
                Ok(ForgetReply { known })
            }
            DeviceAccess::Service(client) => {
                let what = forget_word(what);
                let request = json!({"url": url, "what": what});
                DeviceAccess::call(client, "org.avocado.RootAuthority.Forget", &request)
            }
        }
    }
}
