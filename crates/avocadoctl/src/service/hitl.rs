//! The methods of org.avocado.Hitl.

use avocado_device::DeviceError;
use avocado_varlink::server::{MethodCall, ReplyError};

use super::{DeviceService, fail, may_lower_protection, warn};
use crate::failure::Failure;
use crate::interface::{HitlMountParameters, HitlReply, HitlUnmountParameters};

impl DeviceService {
    pub(super) fn hitl(&self, call: MethodCall) -> Result<(), ReplyError> {
        if !may_lower_protection(&call) {
            self.tell(&call, Err(&Failure::ServiceDenied));
            return call.permission_denied();
        }
        // The parameters fit the declaration, so they fit the types.
        match call.method() {
            "Mount" => {
                let Ok(parameters) = call.parameters::<HitlMountParameters>() else {
                    return call.invalid_parameter("extensions");
                };
                match parameters.request() {
                    Ok(request) => self.hitl_done(
                        &request.extensions.join(" "),
                        self.device.hitl_mount(&request, &warn),
                        call,
                    ),
                    Err(parameter) => call.invalid_parameter(parameter),
                }
            }
            "Unmount" => {
                let Ok(parameters) = call.parameters::<HitlUnmountParameters>() else {
                    return call.invalid_parameter("extensions");
                };
                let result = self.device.hitl_unmount(&parameters.extensions, &warn);
                self.hitl_done(&parameters.extensions.join(" "), result, call)
            }
            _ => call.method_not_implemented(),
        }
    }

    fn hitl_done(
        &self,
        what: &str,
        result: Result<(), DeviceError>,
        call: MethodCall,
    ) -> Result<(), ReplyError> {
        self.tell(&call, result.as_ref().map(|()| what));
        match result {
            Ok(()) => call.reply(&HitlReply {}),
            Err(error) => fail(call, &Failure::of_hitl(&error)),
        }
    }
}
