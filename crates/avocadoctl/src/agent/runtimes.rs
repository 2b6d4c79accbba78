//! org.avocado.Runtimes through either door.

use std::path::{Path, PathBuf};

use avocado_device::{AddRequest, Cancel, Device, Error, PruneOptions, RuntimeEntry, Source};
use avocado_varlink::client::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Agent;
use crate::declared::Declared;
use crate::failure::Failure;
use crate::model::{
    AddFromUrl, Inspected, Listed, Plan, Planned, Progressed, Prune, Pruned, Runtime, Verification,
};
use crate::progress::Talk;

/// Where a runtime comes from.
pub(crate) enum Origin<'a> {
    Url(AddFromUrl),
    Manifest(&'a Path),
}

impl Agent {
    pub(crate) fn list(&mut self) -> Result<Listed<'static>, Failure> {
        match self {
            Agent::Here(device) => {
                let listing = device.listing().map_err(failed)?;
                Ok(Listed::from(&listing).into_owned())
            }
            Agent::Service(client) => call(client, "List", &json!({})),
        }
    }

    pub(crate) fn inspect(&mut self, id: Option<&str>) -> Result<Runtime, Failure> {
        match self {
            Agent::Here(device) => device.inspect(id).map(Runtime::from).map_err(failed),
            Agent::Service(client) => {
                let parameters = id.map_or(json!({}), |id| json!({"id": id}));
                call::<Inspected>(client, "Inspect", &parameters).map(|reply| reply.runtime)
            }
        }
    }

    /// The active runtime, if there is one.
    pub(crate) fn active(&mut self) -> Result<Option<Runtime>, Failure> {
        match self.inspect(None) {
            Err(failure) if failure.kind == "RuntimeNotFound" => Ok(None),
            other => other.map(Some),
        }
    }

    pub(crate) fn add(self, from: Origin<'_>, talk: &Talk) -> Result<Runtime, Failure> {
        let never = Cancel::new();
        match (self, from) {
            (Agent::Here(device), from) => {
                let entry = with_source(from, |source| device.add(source, &never, talk));
                entry.map(Runtime::from).map_err(failed)
            }
            (Agent::Service(client), Origin::Url(request)) => {
                runtime(stream(client, "AddFromUrl", &request, talk)?)
            }
            (Agent::Service(client), Origin::Manifest(path)) => {
                let parameters = manifest(path)?;
                runtime(stream(client, "AddFromManifest", &parameters, talk)?)
            }
        }
    }

    pub(crate) fn plan(&mut self, from: Origin<'_>, talk: &Talk) -> Result<Plan, Failure> {
        let never = Cancel::new();
        match (self, from) {
            (Agent::Here(device), from) => {
                let plan = with_source(from, |source| device.plan(source, &never, talk));
                plan.map(Plan::from).map_err(failed)
            }
            (Agent::Service(client), Origin::Url(request)) => {
                call::<Planned>(client, "PlanFromUrl", &request).map(|reply| reply.plan)
            }
            (Agent::Service(client), Origin::Manifest(path)) => {
                let parameters = manifest(path)?;
                call::<Planned>(client, "PlanFromManifest", &parameters).map(|reply| reply.plan)
            }
        }
    }

    pub(crate) fn download(self, request: AddFromUrl, talk: &Talk) -> Result<Plan, Failure> {
        match self {
            Agent::Here(device) => {
                let plan = device.download(&add_request(request), &Cancel::new(), talk);
                plan.map(Plan::from).map_err(failed)
            }
            Agent::Service(client) => {
                let last = stream(client, "DownloadFromUrl", &request, talk)?;
                last.plan.ok_or_else(silent)
            }
        }
    }

    pub(crate) fn activate(self, id: &str, talk: &Talk) -> Result<Runtime, Failure> {
        match self {
            Agent::Here(device) => activated(device.activate(id, talk)),
            Agent::Service(client) => {
                runtime(stream(client, "Activate", &json!({"id": id}), talk)?)
            }
        }
    }

    pub(crate) fn rollback(self, talk: &Talk) -> Result<Runtime, Failure> {
        match self {
            Agent::Here(device) => activated(device.rollback(talk)),
            Agent::Service(client) => runtime(stream(client, "Rollback", &json!({}), talk)?),
        }
    }

    pub(crate) fn pin(&mut self, id: &str, pinned: bool, talk: &Talk) -> Result<Runtime, Failure> {
        match self {
            Agent::Here(device) => {
                let pin = if pinned { Device::pin } else { Device::unpin };
                pin(device, id, talk).map(Runtime::from).map_err(failed)
            }
            Agent::Service(client) => {
                let method = if pinned { "Pin" } else { "Unpin" };
                call::<Inspected>(client, method, &json!({"id": id})).map(|reply| reply.runtime)
            }
        }
    }

    pub(crate) fn prune(&mut self, request: &Prune, talk: &Talk) -> Result<Pruned, Failure> {
        match self {
            Agent::Here(device) => {
                let pruned = device.prune(&prune_options(request), talk);
                pruned.map(Pruned::from).map_err(failed)
            }
            Agent::Service(client) => call(client, "Prune", request),
        }
    }

    pub(crate) fn verify(self, talk: &Talk) -> Result<Verification, Failure> {
        match self {
            Agent::Here(device) => {
                let found = device.verify(&Cancel::new(), talk);
                found.map(Verification::from).map_err(failed)
            }
            Agent::Service(client) => {
                let last = stream(client, "Verify", &json!({}), talk)?;
                last.verification.ok_or_else(silent)
            }
        }
    }

    pub(crate) fn remove(&mut self, id: &str, talk: &Talk) -> Result<(), Failure> {
        match self {
            Agent::Here(device) => device.remove(id, talk).map_err(failed),
            Agent::Service(client) => call::<Value>(client, "Remove", &json!({"id": id})).map(drop),
        }
    }
}

/// The request of the interface, for the device. Metadata may not have expired by now.
pub(crate) fn add_request(request: AddFromUrl) -> AddRequest {
    AddRequest {
        url: request.url,
        auth_token: request.auth_token,
        artifacts_url: request.artifacts_url,
        now: jiff::Timestamp::now(),
    }
}

/// The request of the interface, for the device. A negative number to keep is none.
pub(crate) fn prune_options(request: &Prune) -> PruneOptions {
    PruneOptions {
        keep: request.keep.map(|keep| usize::try_from(keep).unwrap_or(0)),
        dry_run: request.dry_run == Some(true),
    }
}

fn with_source<T>(from: Origin<'_>, work: impl FnOnce(Source<'_>) -> T) -> T {
    match from {
        Origin::Url(request) => work(Source::Repository(&add_request(request))),
        Origin::Manifest(path) => work(Source::Manifest(&absolute(path))),
    }
}

/// The service has another working directory, and errors have the same words through either door.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The parameters for a manifest.
fn manifest(path: &Path) -> Result<Value, Failure> {
    let path = absolute(path);
    match path.to_str() {
        Some(path) => Ok(json!({"manifestPath": path})),
        None => {
            let message = format!("{} is not UTF-8, as varlink needs it", path.display());
            Err(Failure::new("Path", message))
        }
    }
}

fn call<R: DeserializeOwned>(
    client: &mut Client,
    method: &str,
    parameters: &impl Serialize,
) -> Result<R, Failure> {
    Agent::call(
        client,
        &format!("org.avocado.Runtimes.{method}"),
        parameters,
    )
}

fn stream(
    client: Client,
    method: &str,
    parameters: &impl Serialize,
    talk: &Talk,
) -> Result<Progressed, Failure> {
    let method = format!("org.avocado.Runtimes.{method}");
    Agent::stream(client, &method, parameters, talk)
}

fn runtime(last: Progressed) -> Result<Runtime, Failure> {
    last.runtime.ok_or_else(silent)
}

fn silent() -> Failure {
    Failure::new("Connection", "the service did not say what it came to")
}

fn activated(result: Result<RuntimeEntry, Error>) -> Result<Runtime, Failure> {
    result
        .map(Runtime::from)
        .map_err(|error| Declared::of_runtimes(&error, true).into())
}

fn failed(error: Error) -> Failure {
    Declared::of_runtimes(&error, false).into()
}
