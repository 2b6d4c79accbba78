//! org.avocado.Extensions and org.avocado.RootAuthority through either door.

use avocado_device::{Device, Error, Forget};
use avocado_events::Sink;
use serde_json::{Value, json};

use super::Agent;
use crate::authority;
use crate::declared::Declared;
use crate::failure::Failure;
use crate::model::{
    DeviceStatus, Disable, Disabled, Enable, Enabled, Extension, ExtensionList, Forgotten,
    RootAuthority, Shown, Statuses, word,
};
use crate::progress::Talk;

/// What is done with the extensions of the active runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merging {
    Merge,
    Unmerge {
        /// And unmount the images.
        unmount: bool,
    },
    Refresh,
}

impl Merging {
    /// The work itself.
    pub(crate) fn run(self, device: &Device, sink: &dyn Sink) -> Result<(), Error> {
        match self {
            Merging::Merge => device.merge(sink),
            Merging::Unmerge { unmount } => device.unmerge(unmount, sink),
            Merging::Refresh => device.refresh(sink),
        }
    }

    /// The parameters of the method.
    fn parameters(self) -> Value {
        match self {
            Merging::Unmerge { unmount: true } => json!({"unmount": true}),
            _ => json!({}),
        }
    }

    /// The method of the interface.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Merging::Merge => "Merge",
            Merging::Unmerge { .. } => "Unmerge",
            Merging::Refresh => "Refresh",
        }
    }
}

impl Agent {
    pub(crate) fn merging(self, what: Merging, talk: &Talk) -> Result<(), Failure> {
        match self {
            Agent::Here(device) => {
                let done = what.run(&device, talk);
                done.map_err(|error| Declared::of_extensions(&error, what.method()).into())
            }
            Agent::Service(client) => {
                let method = format!("org.avocado.Extensions.{}", what.method());
                Agent::stream(client, &method, &what.parameters(), talk).map(drop)
            }
        }
    }

    pub(crate) fn extensions(&mut self) -> Result<Vec<Extension>, Failure> {
        match self {
            Agent::Here(device) => {
                let all = device.extensions();
                let all = all.map_err(|error| Declared::of_extensions(&error, "List"))?;
                Ok(ExtensionList::from(all).extensions)
            }
            Agent::Service(client) => {
                let method = "org.avocado.Extensions.List";
                Ok(Agent::call::<ExtensionList>(client, method, &json!({}))?.extensions)
            }
        }
    }

    pub(crate) fn statuses(&mut self) -> Result<Statuses, Failure> {
        match self {
            Agent::Here(device) => device
                .status()
                .map(Statuses::from)
                .map_err(|error| Declared::of_extensions(&error, "Status").into()),
            Agent::Service(client) => {
                Agent::call(client, "org.avocado.Extensions.Status", &json!({}))
            }
        }
    }

    pub(crate) fn status(&mut self) -> Result<DeviceStatus, Failure> {
        let statuses = self.statuses()?;
        Ok(DeviceStatus {
            runtime: self.active()?,
            os_build_id: statuses.os_build_id,
            extensions: statuses.extensions,
        })
    }

    pub(crate) fn enable(&mut self, request: &Enable, talk: &Talk) -> Result<Enabled, Failure> {
        match self {
            Agent::Here(device) => request
                .run(device, talk)
                .map_err(|error| Declared::of_extensions(&error, "Enable").into()),
            Agent::Service(client) => Agent::call(client, "org.avocado.Extensions.Enable", request),
        }
    }

    pub(crate) fn disable(&mut self, request: &Disable, talk: &Talk) -> Result<Disabled, Failure> {
        match self {
            Agent::Here(device) => request
                .run(device, talk)
                .map_err(|error| Declared::of_extensions(&error, "Disable").into()),
            Agent::Service(client) => {
                Agent::call(client, "org.avocado.Extensions.Disable", request)
            }
        }
    }

    pub(crate) fn root_authority(&mut self) -> Result<Option<RootAuthority>, Failure> {
        match self {
            Agent::Here(device) => Ok(authority::show(device)?),
            Agent::Service(client) => {
                let method = "org.avocado.RootAuthority.Show";
                Ok(Agent::call::<Shown>(client, method, &json!({}))?.authority)
            }
        }
    }

    pub(crate) fn forget(&mut self, url: &str, what: Forget) -> Result<Forgotten, Failure> {
        match self {
            Agent::Here(device) => {
                let known = authority::forget(device, url, what)?;
                Ok(Forgotten { known })
            }
            Agent::Service(client) => {
                let what = word(what);
                let request = json!({"url": url, "what": what});
                Agent::call(client, "org.avocado.RootAuthority.Forget", &request)
            }
        }
    }
}
