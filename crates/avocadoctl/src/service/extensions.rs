//! The methods of org.avocado.Extensions.

use avocado_device::Error;
use avocado_events::Silent;
use avocado_varlink::server::{Call, ReplyError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Agent, Replies, fail};
use crate::agent::Merging;
use crate::declared::Declared;
use crate::model::{Disable, Enable, ExtensionList, Progressed, Statuses};

impl Agent {
    pub(super) fn extensions(&self, call: Call) -> Result<(), ReplyError> {
        let device = &self.device;
        match call.method() {
            "List" => match device.extensions() {
                Ok(all) => call.reply(&ExtensionList::from(all)),
                Err(error) => fail(call, &Declared::of_extensions(&error, "List")),
            },
            "Status" => match device.status() {
                Ok(status) => call.reply(&Statuses::from(status)),
                Err(error) => fail(call, &Declared::of_extensions(&error, "Status")),
            },
            "Merge" => self.merging(call, Merging::Merge),
            "Unmerge" => {
                let unmount = call.raw_parameters().get("unmount");
                let unmount = unmount == Some(&Value::Bool(true));
                self.merging(call, Merging::Unmerge { unmount })
            }
            "Refresh" => self.merging(call, Merging::Refresh),
            "Enable" => self.mark(call, |request: &Enable| request.run(device, &Silent)),
            "Disable" => {
                let says = |name: &str| {
                    call.raw_parameters()
                        .get(name)
                        .is_some_and(|v| !v.is_null())
                };
                if !says("extensions") && !says("all") {
                    return call.invalid_parameter("extensions");
                }
                self.mark(call, |request: &Disable| request.run(device, &Silent))
            }
            _ => call.method_not_implemented(),
        }
    }

    fn merging(&self, call: Call, what: Merging) -> Result<(), ReplyError> {
        match what.run(&self.device, &Replies::new(&call)) {
            Ok(()) => {
                self.tell::<Error>(&call, Ok("done"));
                call.reply(&Progressed {
                    done: true,
                    ..Progressed::default()
                })
            }
            Err(error) => {
                self.tell(&call, Err(&error));
                fail(call, &Declared::of_extensions(&error, what.method()))
            }
        }
    }

    fn mark<P: DeserializeOwned, R: Serialize>(
        &self,
        call: Call,
        work: impl FnOnce(&P) -> Result<R, Error>,
    ) -> Result<(), ReplyError> {
        let Ok(request) = call.parameters::<P>() else {
            // The parameters fit the declaration, so they fit the type.
            return call.invalid_parameter("extensions");
        };
        match work(&request) {
            Ok(result) => {
                let names = call.raw_parameters().get("extensions");
                let names = names.map_or_else(|| "all".to_owned(), ToString::to_string);
                self.tell::<Error>(&call, Ok(&names));
                call.reply(&result)
            }
            Err(error) => {
                self.tell(&call, Err(&error));
                let declared = Declared::of_extensions(&error, call.method());
                fail(call, &declared)
            }
        }
    }
}
