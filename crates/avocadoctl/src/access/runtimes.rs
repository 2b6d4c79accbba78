//! org.avocado.Runtimes by either way.

use std::path::{Path, PathBuf};

use avocado_device::{
    Activation, AddRequest, Cancel, Device, DeviceError, PruneOptions, RuntimeSource,
};
use avocado_varlink::client::VarlinkClient;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::DeviceAccess;
use crate::failure::Failure;
use crate::interface::{
    AddFromUrlParameters, InspectReply, ListReply, MetadataGetReply, MetadataListReply, Plan,
    PlanReply, ProgressReply, PruneParameters, PruneReply, Runtime, Verification,
};
use crate::progress::ProgressPrinter;

/// Where a runtime comes from.
pub(crate) enum RuntimeOrigin<'a> {
    Url(AddFromUrlParameters),
    Manifest(&'a Path),
}

impl DeviceAccess {
    pub(crate) fn list(&mut self) -> Result<ListReply<'static>, Failure> {
        match self {
            DeviceAccess::Direct(device) => {
                let listing = device.listing().map_err(failed)?;
                Ok(ListReply::from(&listing).into_owned())
            }
            DeviceAccess::Service(client) => call(client, "List", &json!({})),
        }
    }

    pub(crate) fn inspect(&mut self, id: Option<&str>) -> Result<Runtime, Failure> {
        match self {
            DeviceAccess::Direct(device) => device.inspect(id).map(Runtime::from).map_err(failed),
            DeviceAccess::Service(client) => {
                let parameters = id.map_or(json!({}), |id| json!({"id": id}));
                call::<InspectReply>(client, "Inspect", &parameters).map(|reply| reply.runtime)
            }
        }
    }

    /// The active runtime, if there is one.
    pub(crate) fn active(&mut self) -> Result<Option<Runtime>, Failure> {
        match self.inspect(None) {
            Err(Failure::RuntimeNotFound { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    pub(crate) fn add(
        self,
        from: RuntimeOrigin<'_>,
        progress: &ProgressPrinter,
    ) -> Result<Runtime, Failure> {
        let never = Cancel::new();
        match (self, from) {
            (DeviceAccess::Direct(device), from) => {
                let entry = with_source(from, |source| device.add(source, &never, progress));
                let added = entry.map_err(failed)?;
                Ok(Runtime::from(added.runtime().clone()))
            }
            (DeviceAccess::Service(client), RuntimeOrigin::Url(request)) => {
                runtime(stream(client, "AddFromUrl", &request, progress)?)
            }
            (DeviceAccess::Service(client), RuntimeOrigin::Manifest(path)) => {
                let parameters = manifest(path)?;
                runtime(stream(client, "AddFromManifest", &parameters, progress)?)
            }
        }
    }

    pub(crate) fn plan(
        &mut self,
        from: RuntimeOrigin<'_>,
        progress: &ProgressPrinter,
    ) -> Result<Plan, Failure> {
        let never = Cancel::new();
        match (self, from) {
            (DeviceAccess::Direct(device), from) => {
                let plan = with_source(from, |source| device.plan(source, &never, progress));
                plan.map(Plan::from).map_err(failed)
            }
            (DeviceAccess::Service(client), RuntimeOrigin::Url(request)) => {
                call::<PlanReply>(client, "PlanFromUrl", &request).map(|reply| reply.plan)
            }
            (DeviceAccess::Service(client), RuntimeOrigin::Manifest(path)) => {
                let parameters = manifest(path)?;
                call::<PlanReply>(client, "PlanFromManifest", &parameters).map(|reply| reply.plan)
            }
        }
    }

    pub(crate) fn download(
        self,
        request: AddFromUrlParameters,
        progress: &ProgressPrinter,
    ) -> Result<Plan, Failure> {
        match self {
            DeviceAccess::Direct(device) => {
                let plan = device.download(&add_request(request), &Cancel::new(), progress);
                plan.map(Plan::from).map_err(failed)
            }
            DeviceAccess::Service(client) => {
                let last = stream(client, "DownloadFromUrl", &request, progress)?;
                last.plan.ok_or_else(silent)
            }
        }
    }

    pub(crate) fn activate(self, id: &str, progress: &ProgressPrinter) -> Result<Runtime, Failure> {
        match self {
            DeviceAccess::Direct(device) => activated(device.activate(id, progress)),
            DeviceAccess::Service(client) => {
                runtime(stream(client, "Activate", &json!({"id": id}), progress)?)
            }
        }
    }

    pub(crate) fn rollback(self, progress: &ProgressPrinter) -> Result<Runtime, Failure> {
        match self {
            DeviceAccess::Direct(device) => activated(device.rollback(progress)),
            DeviceAccess::Service(client) => {
                runtime(stream(client, "Rollback", &json!({}), progress)?)
            }
        }
    }

    pub(crate) fn pin(
        &mut self,
        id: &str,
        pinned: bool,
        progress: &ProgressPrinter,
    ) -> Result<Runtime, Failure> {
        match self {
            DeviceAccess::Direct(device) => {
                let pin = if pinned { Device::pin } else { Device::unpin };
                pin(device, id, progress).map(Runtime::from).map_err(failed)
            }
            DeviceAccess::Service(client) => {
                let method = if pinned { "Pin" } else { "Unpin" };
                call::<InspectReply>(client, method, &json!({"id": id})).map(|reply| reply.runtime)
            }
        }
    }

    pub(crate) fn prune(
        &mut self,
        request: &PruneParameters,
        progress: &ProgressPrinter,
    ) -> Result<PruneReply, Failure> {
        match self {
            DeviceAccess::Direct(device) => {
                let pruned = device.prune(&prune_options(request), progress);
                pruned.map(PruneReply::from).map_err(failed)
            }
            DeviceAccess::Service(client) => call(client, "Prune", request),
        }
    }

    pub(crate) fn metadata(&mut self, id: &str) -> Result<MetadataListReply, Failure> {
        match self {
            DeviceAccess::Direct(device) => {
                let all = device.metadata(id).map_err(failed)?;
                Ok(MetadataListReply::from(all))
            }
            DeviceAccess::Service(client) => call(client, "MetadataList", &json!({"id": id})),
        }
    }

    pub(crate) fn metadata_of_key(
        &mut self,
        id: &str,
        key: &str,
    ) -> Result<MetadataGetReply, Failure> {
        match self {
            DeviceAccess::Direct(device) => {
                let value = device.metadata_of_key(id, key).map_err(failed)?;
                Ok(MetadataGetReply { value })
            }
            DeviceAccess::Service(client) => {
                call(client, "MetadataGet", &json!({"id": id, "key": key}))
            }
        }
    }

    /// Keeps a value, or with `None` nothing any more.
    pub(crate) fn set_metadata(
        &mut self,
        id: &str,
        key: &str,
        value: Option<&str>,
        progress: &ProgressPrinter,
    ) -> Result<(), Failure> {
        match self {
            DeviceAccess::Direct(device) => {
                let done = device.set_metadata(id, key, value, progress);
                done.map_err(failed)
            }
            DeviceAccess::Service(client) => {
                let (method, parameters) = match value {
                    Some(value) => ("MetadataSet", json!({"id": id, "key": key, "value": value})),
                    None => ("MetadataDelete", json!({"id": id, "key": key})),
                };
                call::<Value>(client, method, &parameters).map(drop)
            }
        }
    }

    pub(crate) fn verify(self, progress: &ProgressPrinter) -> Result<Verification, Failure> {
        match self {
            DeviceAccess::Direct(device) => {
                let found = device.verify(&Cancel::new(), progress);
                found.map(Verification::from).map_err(failed)
            }
            DeviceAccess::Service(client) => {
                let last = stream(client, "Verify", &json!({}), progress)?;
                last.verification.ok_or_else(silent)
            }
        }
    }

    pub(crate) fn remove(&mut self, id: &str, progress: &ProgressPrinter) -> Result<(), Failure> {
        match self {
            DeviceAccess::Direct(device) => device.remove(id, progress).map_err(failed),
            DeviceAccess::Service(client) => {
                call::<Value>(client, "Remove", &json!({"id": id})).map(drop)
            }
        }
    }
}

/// The request of the interface, for the device. Metadata may not have expired by now.
pub(crate) fn add_request(request: AddFromUrlParameters) -> AddRequest {
    AddRequest {
        url: request.url,
        auth_token: request.auth_token,
        artifacts_url: request.artifacts_url,
        now: jiff::Timestamp::now(),
    }
}

/// The request of the interface, for the device. A negative number to keep is none.
pub(crate) fn prune_options(request: &PruneParameters) -> PruneOptions {
    PruneOptions {
        keep: request.keep.map(|keep| usize::try_from(keep).unwrap_or(0)),
        dry_run: request.dry_run == Some(true),
    }
}

fn with_source<T>(from: RuntimeOrigin<'_>, work: impl FnOnce(RuntimeSource<'_>) -> T) -> T {
    match from {
        RuntimeOrigin::Url(request) => work(RuntimeSource::Repository(&add_request(request))),
        RuntimeOrigin::Manifest(path) => work(RuntimeSource::Manifest(&absolute(path))),
    }
}

/// The service has another working directory, and errors have the same words by either way.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The parameters for a manifest.
fn manifest(path: &Path) -> Result<Value, Failure> {
    let path = absolute(path);
    match path.to_str() {
        Some(path) => Ok(json!({"manifestPath": path})),
        None => Err(Failure::NotUtf8(path)),
    }
}

fn call<R: DeserializeOwned>(
    client: &mut VarlinkClient,
    method: &str,
    parameters: &impl Serialize,
) -> Result<R, Failure> {
    DeviceAccess::call(
        client,
        &format!("org.avocado.Runtimes.{method}"),
        parameters,
    )
}

fn stream(
    client: VarlinkClient,
    method: &str,
    parameters: &impl Serialize,
    progress: &ProgressPrinter,
) -> Result<ProgressReply, Failure> {
    let method = format!("org.avocado.Runtimes.{method}");
    DeviceAccess::stream(client, &method, parameters, progress)
}

fn runtime(last: ProgressReply) -> Result<Runtime, Failure> {
    last.runtime.ok_or_else(silent)
}

fn silent() -> Failure {
    Failure::NoResult { method: None }
}

fn activated(result: Result<Activation, DeviceError>) -> Result<Runtime, Failure> {
    result
        .map(|activation| Runtime::from(activation.runtime().clone()))
        .map_err(|error| Failure::of_runtimes(&error, true))
}

fn failed(error: DeviceError) -> Failure {
    Failure::of_runtimes(&error, false)
}
