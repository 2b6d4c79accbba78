//! org.avocado.Runtimes: the device's functions as varlink methods.

use std::path::Path;

use avocado_device::{Device, Error, RuntimeEntry};
use avocado_events::{Event, Sink};
use avocado_varlink::idl::{IdlError, Interface};
use avocado_varlink::server::{Call, ReplyError, Service};
use serde::Serialize;
use serde_json::json;

use crate::agent::add_request;
use crate::failure::{Declared, chain};
use crate::model::{AddFromUrl, Inspected, Listed, Progressed, Runtime};
use crate::progress::Lines;

/// The definition of the interface.
pub(crate) const RUNTIMES_IDL: &str = include_str!("../varlink/org.avocado.Runtimes.varlink");

/// A long piece of work tells how far it is in steps of so many percent.
const STEP: u64 = 5;

/// The service.
pub(crate) struct Runtimes {
    device: Device,
    interfaces: [Interface; 1],
    log: fn(&str),
}

impl Runtimes {
    /// Serves `device`; `log` takes a line about each call that changes it.
    pub(crate) fn new(device: Device, log: fn(&str)) -> Result<Self, IdlError> {
        let interfaces = [Interface::parse(RUNTIMES_IDL)?];
        Ok(Runtimes {
            device,
            interfaces,
            log,
        })
    }

    /// Runs something that changes the device, and answers with progress, its runtime, or the
    /// error.
    fn change(
        &self,
        call: Call,
        done: &str,
        work: impl FnOnce(&dyn Sink) -> Result<RuntimeEntry, Error>,
    ) -> Result<(), ReplyError> {
        let activating = call.method() == "Activate";
        let sink = Replies {
            call: &call,
            lines: Lines::new(STEP, false),
        };
        let result = work(&sink);
        self.tell(
            &call,
            result.as_ref().map(|entry| entry.manifest.id.as_str()),
        );
        match result {
            Ok(entry) => {
                let runtime = Runtime::from(entry);
                let active = match runtime.active && !activating {
                    true => " and active",
                    false => "",
                };
                let (name, version) = (&runtime.runtime.name, &runtime.runtime.version);
                let id = runtime.short_id();
                call.reply(&Progressed {
                    message: format!("runtime {name} {version} ({id}) is {done}{active}"),
                    done: true,
                    runtime: Some(runtime),
                })
            }
            Err(error) => fail(call, &error, activating),
        }
    }

    /// Logs who changed what.
    fn tell(&self, call: &Call, result: Result<&str, &Error>) {
        let peer = match call.peer() {
            Some(peer) => peer.to_string(),
            None => "an unknown process".to_owned(),
        };
        let result = match result {
            Ok(id) => id.to_owned(),
            Err(error) => format!("failed: {}", chain(error)),
        };
        (self.log)(&format!("{} by {peer}: {result}", call.method()));
    }
}

impl Service for Runtimes {
    fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    fn exclusive(&self, _interface: &str, method: &str) -> bool {
        // They would wait for the store's lock otherwise, each with a thread.
        !matches!(method, "List" | "Inspect")
    }

    fn call(&self, call: Call) {
        let device = &self.device;
        let text = |name: &str| {
            let value = call.raw_parameters().get(name);
            value.and_then(|v| v.as_str()).map(str::to_owned)
        };
        let id = text("id");
        // A client that is gone does not get its answer, and that is all.
        let _ = match call.method() {
            "List" => match device.list() {
                Ok(entries) => {
                    let runtimes = entries.into_iter().map(Runtime::from).collect();
                    call.reply(&Listed { runtimes })
                }
                Err(error) => fail(call, &error, false),
            },
            "Inspect" => match device.inspect(id.as_deref()) {
                Ok(entry) => call.reply(&Inspected {
                    runtime: entry.into(),
                }),
                Err(error) => fail(call, &error, false),
            },
            "AddFromUrl" => match call.parameters::<AddFromUrl>() {
                Ok(request) => {
                    let request = add_request(request);
                    self.change(call, "staged", |sink| device.add_from_url(&request, sink))
                }
                // The parameters fit the declaration, so they fit the type.
                Err(_) => call.invalid_parameter("url"),
            },
            "AddFromManifest" => {
                let path = text("manifestPath").unwrap_or_default();
                let path = Path::new(&path);
                if !path.is_absolute() {
                    return drop(call.invalid_parameter("manifestPath"));
                }
                self.change(call, "staged", |sink| device.add_from_manifest(path, sink))
            }
            "Activate" => {
                let id = id.unwrap_or_default();
                self.change(call, "active", |sink| device.activate(&id, sink))
            }
            "Remove" => {
                let id = id.unwrap_or_default();
                let result = device.remove(&id, &avocado_events::Silent);
                self.tell(&call, result.as_ref().map(|()| id.as_str()));
                match result {
                    Ok(()) => call.reply(&json!({})),
                    Err(error) => fail(call, &error, false),
                }
            }
            _ => call.method_not_implemented(),
        };
    }
}

fn fail(call: Call, error: &Error, activating: bool) -> Result<(), ReplyError> {
    let declared = Declared::of(error, activating);
    call.reply_error(&declared.full_name(), &declared.parameters)
}

/// Progress as replies. Those that the client does not take, because it is gone or slow, are
/// dropped: the work goes on.
struct Replies<'a> {
    call: &'a Call,
    lines: Lines,
}

impl Sink for Replies<'_> {
    fn emit(&self, event: Event) {
        #[derive(Serialize)]
        struct Progress {
            message: String,
            done: bool,
        }
        if let Some(message) = self.lines.line(&event) {
            let _ = self.call.reply_continues(&Progress {
                message,
                done: false,
            });
        }
    }
}
