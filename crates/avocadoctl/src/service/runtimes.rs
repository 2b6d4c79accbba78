//! The methods of org.avocado.Runtimes.

use std::path::Path;

use avocado_device::{Cancel, Device, Error, RuntimeEntry, Source};
use avocado_events::{Silent, Sink};
use avocado_varlink::server::{Call, ReplyError};
use serde_json::json;

use super::{Agent, Replies, fail, text};
use crate::agent::{add_request, prune_options};
use crate::declared::Declared;
use crate::model::{
    AddFromUrl, Inspected, Listed, Plan, Planned, Progressed, Prune, Pruned, Runtime, Verification,
};
use crate::progress::size;

impl Agent {
    pub(super) fn runtimes(&self, call: Call) -> Result<(), ReplyError> {
        let device = &self.device;
        let id = text(&call, "id");
        match call.method() {
            "List" => match device.listing() {
                Ok(listing) => call.reply(&Listed::from(&listing)),
                Err(error) => failed(call, &error),
            },
            "Inspect" => match device.inspect(id.as_deref()) {
                Ok(entry) => inspected(call, entry),
                Err(error) => failed(call, &error),
            },
            "AddFromUrl" | "AddFromManifest" => self.with_source(
                call,
                |source, cancel, sink| device.add(source, cancel, sink),
                |agent, call, result| agent.changed(call, result, "staged"),
            ),
            "PlanFromUrl" | "PlanFromManifest" => self.with_source(
                call,
                |source, cancel, _| device.plan(source, cancel, &Silent),
                |_, call, result| match result {
                    Ok(plan) => call.reply(&Planned { plan: plan.into() }),
                    Err(error) => failed(call, &error),
                },
            ),
            "DownloadFromUrl" => {
                let download = |source: Source<'_>, cancel: &Cancel, sink: &dyn Sink| match source {
                    Source::Repository(request) => device.download(request, cancel, sink),
                    source => device.plan(source, cancel, sink),
                };
                self.with_source(call, download, Agent::downloaded)
            }
            "Activate" => {
                let id = id.unwrap_or_default();
                let result = device.activate(&id, &Replies::new(&call));
                self.changed(call, result, "active")
            }
            "Rollback" => {
                let result = device.rollback(&Replies::new(&call));
                self.changed(call, result, "active again")
            }
            "Pin" => self.pinned(call, Device::pin),
            "Unpin" => self.pinned(call, Device::unpin),
            "Remove" => {
                let id = id.unwrap_or_default();
                let result = device.remove(&id, &Silent);
                self.tell(&call, result.as_ref().map(|()| id.as_str()));
                match result {
                    Ok(()) => call.reply(&json!({})),
                    Err(error) => failed(call, &error),
                }
            }
            "Prune" => match call.parameters::<Prune>() {
                Ok(request) if request.keep.is_some_and(|keep| keep < 0) => {
                    call.invalid_parameter("keep")
                }
                Ok(request) => self.prune(call, &request),
                Err(_) => call.invalid_parameter("keep"),
            },
            "Verify" => self.verify(call),
            _ => call.method_not_implemented(),
        }
    }

    /// Runs something with the runtime that the parameters name, until the client is gone.
    fn with_source<T>(
        &self,
        call: Call,
        work: impl FnOnce(Source<'_>, &Cancel, &dyn Sink) -> Result<T, Error>,
        then: impl FnOnce(&Self, Call, Result<T, Error>) -> Result<(), ReplyError>,
    ) -> Result<(), ReplyError> {
        let cancel = until_gone(&call);
        let result = match text(&call, "manifestPath") {
            Some(path) if !Path::new(&path).is_absolute() => {
                return call.invalid_parameter("manifestPath");
            }
            Some(path) => {
                let source = Source::Manifest(Path::new(&path));
                work(source, &cancel, &Replies::new(&call))
            }
            None => match call.parameters::<AddFromUrl>() {
                Ok(request) => {
                    let request = add_request(request);
                    let source = Source::Repository(&request);
                    work(source, &cancel, &Replies::new(&call))
                }
                // The parameters fit the declaration, so they fit the type.
                Err(_) => return call.invalid_parameter("url"),
            },
        };
        then(self, call, result)
    }

    /// Answers a call that staged or activated a runtime.
    fn changed(
        &self,
        call: Call,
        result: Result<RuntimeEntry, Error>,
        done: &str,
    ) -> Result<(), ReplyError> {
        let entry = result.as_ref();
        self.tell(&call, entry.map(|entry| entry.manifest.id.as_str()));
        let activating = matches!(call.method(), "Activate" | "Rollback");
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
                    ..Progressed::default()
                })
            }
            Err(error) => fail(call, &Declared::of_runtimes(&error, activating)),
        }
    }

    fn downloaded(
        &self,
        call: Call,
        result: Result<avocado_device::Plan, Error>,
    ) -> Result<(), ReplyError> {
        let entry = result.as_ref();
        self.tell(&call, entry.map(|plan| plan.manifest.id.as_str()));
        match result {
            Ok(plan) => call.reply(&Progressed {
                message: format!("{} are downloaded", size(plan.fetch_bytes)),
                done: true,
                plan: Some(Plan::from(plan)),
                ..Progressed::default()
            }),
            Err(error) => failed(call, &error),
        }
    }

    fn pinned(
        &self,
        call: Call,
        pin: impl FnOnce(&Device, &str, &dyn Sink) -> Result<RuntimeEntry, Error>,
    ) -> Result<(), ReplyError> {
        let id = text(&call, "id").unwrap_or_default();
        let result = pin(&self.device, &id, &Silent);
        let entry = result.as_ref();
        self.tell(&call, entry.map(|entry| entry.manifest.id.as_str()));
        match result {
            Ok(entry) => inspected(call, entry),
            Err(error) => failed(call, &error),
        }
    }

    fn prune(&self, call: Call, request: &Prune) -> Result<(), ReplyError> {
        let result = self.device.prune(&prune_options(request), &Silent);
        if request.dry_run != Some(true) {
            let freed = |pruned: &avocado_device::Pruned| size(pruned.freed_bytes);
            match &result {
                Ok(pruned) => self.tell::<Error>(&call, Ok(&freed(pruned))),
                Err(error) => self.tell(&call, Err(error)),
            }
        }
        match result {
            Ok(pruned) => call.reply(&Pruned::from(pruned)),
            Err(error) => failed(call, &error),
        }
    }

    fn verify(&self, call: Call) -> Result<(), ReplyError> {
        let cancel = until_gone(&call);
        match self.device.verify(&cancel, &Replies::new(&call)) {
            Ok(found) => call.reply(&Progressed {
                message: format!("{} images are verified", found.images),
                done: true,
                verification: Some(Verification::from(found)),
                ..Progressed::default()
            }),
            Err(error) => failed(call, &error),
        }
    }
}

/// Long work ends when nobody waits for it.
fn until_gone(call: &Call) -> Cancel {
    let cancel = Cancel::new();
    let request = cancel.clone();
    call.on_cancel(move || request.cancel());
    cancel
}

fn inspected(call: Call, entry: RuntimeEntry) -> Result<(), ReplyError> {
    call.reply(&Inspected {
        runtime: entry.into(),
    })
}

fn failed(call: Call, error: &Error) -> Result<(), ReplyError> {
    fail(call, &Declared::of_runtimes(error, false))
}
