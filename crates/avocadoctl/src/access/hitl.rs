//! org.avocado.Hitl by either way.

use avocado_events::Sink;

use super::DeviceAccess;
use crate::failure::Failure;
use crate::interface::{HitlMountParameters, HitlReply, HitlUnmountParameters};

impl DeviceAccess {
    pub(crate) fn hitl_mount(
        self,
        parameters: HitlMountParameters,
        sink: &dyn Sink,
    ) -> Result<(), Failure> {
        match self {
            DeviceAccess::Direct(device) => {
                let request = parameters.request();
                let request =
                    request.map_err(|what| Failure::Usage(format!("{what} cannot be used")))?;
                let done = device.hitl_mount(&request, sink);
                done.map_err(|error| Failure::of_hitl(&error))
            }
            DeviceAccess::Service(mut client) => {
                let method = "org.avocado.Hitl.Mount";
                DeviceAccess::call::<HitlReply>(&mut client, method, &parameters).map(drop)
            }
        }
    }

    pub(crate) fn hitl_unmount(
        self,
        parameters: &HitlUnmountParameters,
        sink: &dyn Sink,
    ) -> Result<(), Failure> {
        match self {
            DeviceAccess::Direct(device) => {
                let done = device.hitl_unmount(&parameters.extensions, sink);
                done.map_err(|error| Failure::of_hitl(&error))
            }
            DeviceAccess::Service(mut client) => {
                let method = "org.avocado.Hitl.Unmount";
                DeviceAccess::call::<HitlReply>(&mut client, method, parameters).map(drop)
            }
        }
    }
}
