//! The methods of org.avocado.Extensions.

use avocado_device::DeviceError;
use avocado_varlink::server::{MethodCall, ReplyError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{DeviceService, Replies, fail, warn};
use crate::access::MergeAction;
use crate::failure::Failure;
use crate::interface::{
    DisableParameters, EnableParameters, ExtensionListReply, ProgressReply, SetEnabledParameters,
    StatusReply,
};

impl DeviceService {
    pub(super) fn extensions(&self, call: MethodCall) -> Result<(), ReplyError> {
        let device = &self.device;
        match call.method() {
            "List" => match device.extensions() {
                Ok(all) => call.reply(&ExtensionListReply::from(all)),
                Err(error) => fail(call, &Failure::of_extensions(&error, "List")),
            },
            "Status" => match device.status() {
                Ok(status) => call.reply(&StatusReply::from(status)),
                Err(error) => fail(call, &Failure::of_extensions(&error, "Status")),
            },
            "Merge" => self.merging(call, MergeAction::Merge),
            "Unmerge" => {
                let unmount = call.raw_parameters().get("unmount");
                let unmount = unmount == Some(&Value::Bool(true));
                self.merging(call, MergeAction::Unmerge { unmount })
            }
            "Refresh" => self.merging(call, MergeAction::Refresh),
            "Enable" => self.mark(call, |request: &EnableParameters| {
                request.run(device, &warn)
            }),
            "SetEnabled" => self.mark(call, |request: &SetEnabledParameters| {
                request.run(device, &warn)
            }),
            "Disable" => {
                let says = |name: &str| {
                    call.raw_parameters()
                        .get(name)
                        .is_some_and(|v| !v.is_null())
                };
                if !says("extensions") && !says("all") {
                    return call.invalid_parameter("extensions");
                }
                self.mark(call, |request: &DisableParameters| {
                    request.run(device, &warn)
                })
            }
            _ => call.method_not_implemented(),
        }
    }

    fn merging(&self, call: MethodCall, what: MergeAction) -> Result<(), ReplyError> {
        match what.run(&self.device, &Replies::new(&call)) {
            Ok(()) => {
                self.tell::<DeviceError>(&call, Ok("done"));
                call.reply(&ProgressReply {
                    done: true,
                    ..ProgressReply::default()
                })
            }
            Err(error) => {
                self.tell(&call, Err(&error));
                fail(call, &Failure::of_extensions(&error, what.method()))
            }
        }
    }

    fn mark<P: DeserializeOwned, R: Serialize>(
        &self,
        call: MethodCall,
        work: impl FnOnce(&P) -> Result<R, DeviceError>,
    ) -> Result<(), ReplyError> {
        let Ok(request) = call.parameters::<P>() else {
            // The parameters fit the declaration, so they fit the type.
            return call.invalid_parameter("extensions");
        };
        match work(&request) {
            Ok(result) => {
                let names = call.raw_parameters().get("extensions");
                let names = names.map_or_else(|| "all".to_owned(), ToString::to_string);
                self.tell::<DeviceError>(&call, Ok(&names));
                call.reply(&result)
            }
            Err(error) => {
                self.tell(&call, Err(&error));
                let declared = Failure::of_extensions(&error, call.method());
                fail(call, &declared)
            }
        }
    }
}
