//! The methods of org.avocado.Runtimes.

use std::path::Path;

use avocado_device::{Activation, Added, Cancel, Device, DeviceError, RuntimeEntry, RuntimeSource};
use avocado_events::Sink;
use avocado_text::bytes;
use avocado_varlink::server::{MethodCall, ReplyError};
use serde_json::json;

use super::{DeviceService, Replies, fail, text, warn};
use crate::access::{add_request, prune_options};
use crate::failure::Failure;
use crate::interface::{
    AddFromUrlParameters, GarbageCollectReply, InspectReply, ListReply, MetadataGetReply,
    MetadataListReply, Plan, PlanReply, ProgressReply, PruneParameters, PruneReply, Runtime,
    Verification,
};

impl DeviceService {
    pub(super) fn runtimes(&self, call: MethodCall) -> Result<(), ReplyError> {
        let device = &self.device;
        let id = text(&call, "id");
        match call.method() {
            "List" => match device.listing() {
                Ok(listing) => call.reply(&ListReply::from(&listing)),
                Err(error) => failed(call, &error),
            },
            "Inspect" => match device.inspect(id.as_deref()) {
                Ok(entry) => inspected(call, entry),
                Err(error) => failed(call, &error),
            },
            "AddFromUrl" | "AddFromManifest" => self.with_source(
                call,
                |source, cancel, sink| device.add(source, cancel, sink),
                |agent, call, result| agent.added(call, result),
            ),
            "PlanFromUrl" | "PlanFromManifest" => self.with_source(
                call,
                |source, cancel, _| device.plan(source, cancel, &warn),
                |_, call, result| match result {
                    Ok(plan) => call.reply(&PlanReply { plan: plan.into() }),
                    Err(error) => failed(call, &error),
                },
            ),
            "DownloadFromUrl" => {
                let download =
                    |source: RuntimeSource<'_>, cancel: &Cancel, sink: &dyn Sink| match source {
                        RuntimeSource::Repository(request) => {
                            device.download(request, cancel, sink)
                        }
                        source => device.plan(source, cancel, sink),
                    };
                self.with_source(call, download, DeviceService::downloaded)
            }
            "Activate" => {
                let id = id.unwrap_or_default();
                let result = device.activate(&id, &Replies::new(&call));
                self.activated(call, result, "active")
            }
            "Rollback" => {
                let result = device.rollback(&Replies::new(&call));
                self.activated(call, result, "active again")
            }
            "Pin" => self.pinned(call, Device::pin),
            "Unpin" => self.pinned(call, Device::unpin),
            "Remove" => {
                let id = id.unwrap_or_default();
                let result = device.remove(&id, &warn);
                self.tell(&call, result.as_ref().map(|()| id.as_str()));
                match result {
                    Ok(()) => call.reply(&json!({})),
                    Err(error) => failed(call, &error),
                }
            }
            "Prune" => match call.parameters::<PruneParameters>() {
                Ok(request) if request.keep.is_some_and(|keep| keep < 0) => {
                    call.invalid_parameter("keep")
                }
                Ok(request) => self.prune(call, &request),
                Err(_) => call.invalid_parameter("keep"),
            },
            "GarbageCollect" => {
                let result = device.collect_garbage(&warn);
                let freed = result.as_ref().map(|pruned| bytes(pruned.freed_bytes));
                self.tell(&call, freed.as_deref().map_err(|error| *error));
                match result {
                    Ok(pruned) => call.reply(&GarbageCollectReply::from(pruned)),
                    Err(error) => failed(call, &error),
                }
            }
            "MetadataSet" | "MetadataGet" | "MetadataList" | "MetadataDelete" => {
                self.metadata(call, &id.unwrap_or_default())
            }
            "Verify" => self.verify(call),
            _ => call.method_not_implemented(),
        }
    }

    /// Runs something with the runtime that the parameters name, until the client is gone.
    fn with_source<T>(
        &self,
        call: MethodCall,
        work: impl FnOnce(RuntimeSource<'_>, &Cancel, &dyn Sink) -> Result<T, DeviceError>,
        then: impl FnOnce(&Self, MethodCall, Result<T, DeviceError>) -> Result<(), ReplyError>,
    ) -> Result<(), ReplyError> {
        let cancel = until_gone(&call);
        let result = match text(&call, "manifestPath") {
            Some(path) if !Path::new(&path).is_absolute() => {
                return call.invalid_parameter("manifestPath");
            }
            Some(path) => {
                let source = RuntimeSource::Manifest(Path::new(&path));
                work(source, &cancel, &Replies::new(&call))
            }
            None => match call.parameters::<AddFromUrlParameters>() {
                Ok(request) => {
                    let request = add_request(request);
                    let source = RuntimeSource::Repository(&request);
                    work(source, &cancel, &Replies::new(&call))
                }
                // The parameters fit the declaration, so they fit the type.
                Err(_) => return call.invalid_parameter("url"),
            },
        };
        then(self, call, result)
    }

    /// Answers a call that staged a runtime.
    fn added(
        &self,
        call: MethodCall,
        result: Result<Added, DeviceError>,
    ) -> Result<(), ReplyError> {
        let runtime = result.as_ref().map(Added::runtime);
        self.tell(&call, runtime.map(|entry| entry.manifest.id.as_str()));
        match result {
            Ok(Added::Staged(entry)) if entry.active => changed(call, entry, "staged and active"),
            Ok(Added::Staged(entry)) => changed(call, entry, "staged"),
            Ok(Added::Activated(Activation::Active(entry))) => {
                changed(call, entry, "staged and active")
            }
            Ok(Added::Activated(Activation::RebootRequired { runtime, .. })) => {
                changed(call, runtime, &format!("staged, and {AFTER_REBOOT}"))
            }
            Err(error) => failed(call, &error),
        }
    }

    /// Answers a call that activated a runtime.
    fn activated(
        &self,
        call: MethodCall,
        result: Result<Activation, DeviceError>,
        done: &str,
    ) -> Result<(), ReplyError> {
        let runtime = result.as_ref().map(Activation::runtime);
        self.tell(&call, runtime.map(|entry| entry.manifest.id.as_str()));
        match result {
            Ok(Activation::Active(entry)) => changed(call, entry, done),
            Ok(Activation::RebootRequired { runtime, .. }) => changed(call, runtime, AFTER_REBOOT),
            Err(error) => fail(call, &Failure::of_runtimes(&error, true)),
        }
    }

    fn downloaded(
        &self,
        call: MethodCall,
        result: Result<avocado_device::AddPlan, DeviceError>,
    ) -> Result<(), ReplyError> {
        let entry = result.as_ref();
        self.tell(&call, entry.map(|plan| plan.manifest.id.as_str()));
        match result {
            Ok(plan) => call.reply(&ProgressReply {
                message: format!("{} are downloaded", bytes(plan.fetch_bytes)),
                done: true,
                plan: Some(Plan::from(plan)),
                ..ProgressReply::default()
            }),
            Err(error) => failed(call, &error),
        }
    }

    fn pinned(
        &self,
        call: MethodCall,
        pin: impl FnOnce(&Device, &str, &dyn Sink) -> Result<RuntimeEntry, DeviceError>,
    ) -> Result<(), ReplyError> {
        let id = text(&call, "id").unwrap_or_default();
        let result = pin(&self.device, &id, &warn);
        let entry = result.as_ref();
        self.tell(&call, entry.map(|entry| entry.manifest.id.as_str()));
        match result {
            Ok(entry) => inspected(call, entry),
            Err(error) => failed(call, &error),
        }
    }

    fn prune(&self, call: MethodCall, request: &PruneParameters) -> Result<(), ReplyError> {
        let result = self.device.prune(&prune_options(request), &warn);
        if request.dry_run != Some(true) {
            let freed = |pruned: &avocado_device::PruneReport| bytes(pruned.freed_bytes);
            match &result {
                Ok(pruned) => self.tell::<DeviceError>(&call, Ok(&freed(pruned))),
                Err(error) => self.tell(&call, Err(error)),
            }
        }
        match result {
            Ok(pruned) => call.reply(&PruneReply::from(pruned)),
            Err(error) => failed(call, &error),
        }
    }

    fn metadata(&self, call: MethodCall, id: &str) -> Result<(), ReplyError> {
        let device = &self.device;
        let key = text(&call, "key").unwrap_or_default();
        let changed = match call.method() {
            "MetadataList" => {
                return match device.metadata(id) {
                    Ok(all) => call.reply(&MetadataListReply::from(all)),
                    Err(error) => failed(call, &error),
                };
            }
            _ if key.is_empty() => return call.invalid_parameter("key"),
            "MetadataGet" => {
                return match device.metadata_of_key(id, &key) {
                    Ok(value) => call.reply(&MetadataGetReply { value }),
                    Err(error) => failed(call, &error),
                };
            }
            "MetadataSet" => {
                let value = text(&call, "value").unwrap_or_default();
                device.set_metadata(id, &key, Some(&value), &warn)
            }
            _ => device.set_metadata(id, &key, None, &warn),
        };
        self.tell(&call, changed.as_ref().map(|()| key.as_str()));
        match changed {
            Ok(()) => call.reply(&json!({})),
            Err(error) => failed(call, &error),
        }
    }

    fn verify(&self, call: MethodCall) -> Result<(), ReplyError> {
        let cancel = until_gone(&call);
        match self.device.verify(&cancel, &Replies::new(&call)) {
            Ok(found) => call.reply(&ProgressReply {
                message: format!("{} images are verified", found.images),
                done: true,
                verification: Some(Verification::from(found)),
                ..ProgressReply::default()
            }),
            Err(error) => failed(call, &error),
        }
    }
}

/// What is said of a runtime whose OS is written and does not run yet.
const AFTER_REBOOT: &str = "not active yet: its OS is written, and runs after a reboot";

/// The last reply of a call that changed what is done with a runtime.
fn changed(call: MethodCall, entry: RuntimeEntry, done: &str) -> Result<(), ReplyError> {
    let runtime = Runtime::from(entry);
    let (name, version) = (&runtime.runtime.name, &runtime.runtime.version);
    let id = runtime.short_id();
    call.reply(&ProgressReply {
        message: format!("runtime {name} {version} ({id}) is {done}"),
        done: true,
        runtime: Some(runtime),
        ..ProgressReply::default()
    })
}

/// Long work ends when its client waits for it no more.
fn until_gone(call: &MethodCall) -> Cancel {
    let cancel = Cancel::new();
    let request = cancel.clone();
    call.on_cancel(move || request.cancel());
    cancel
}

fn inspected(call: MethodCall, entry: RuntimeEntry) -> Result<(), ReplyError> {
    call.reply(&InspectReply {
        runtime: entry.into(),
    })
}

fn failed(call: MethodCall, error: &DeviceError) -> Result<(), ReplyError> {
    fail(call, &Failure::of_runtimes(error, false))
}
