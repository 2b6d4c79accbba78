//! The two doors to the runtimes of the device: the service behind its socket, or the same
//! functions in this process.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use avocado_device::{AddRequest, Config, Device, Error, RuntimeEntry};
use avocado_varlink::client::{Address, Client, ClientError};
use rustix::fs::Access;
use serde_json::{Value, json};

use crate::failure::{Declared, Failure, chain};
use crate::model::{AddFromUrl, Inspected, Listed, Progressed, Runtime};
use crate::progress::Talk;

/// What opens a door.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    /// The service that the user wants, and no other door.
    pub(crate) socket: Option<String>,
    /// The user named the store itself, which the service may not serve.
    pub(crate) own_base: bool,
}

/// What a command does with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Read,
    Write,
}

/// An open door.
#[derive(Debug)]
pub(crate) enum Agent {
    Here(Box<Device>),
    Service(Client),
}

impl Agent {
    /// Opens the service's door if there is a service, and else our own, if the caller may use
    /// the store.
    pub(crate) fn open(settings: &Settings, need: Need) -> Result<Self, Failure> {
        let here = || Agent::Here(Box::new(Device::new(settings.config.clone())));
        let base = &settings.config.base;
        if settings.own_base && settings.socket.is_none() {
            return match may_use(base, need) {
                true => Ok(here()),
                false => Err(no_access(base, need)),
            };
        }
        let text = settings.socket.as_ref().unwrap_or(&settings.config.socket);
        let address: Address = text
            .parse()
            .map_err(|e| Failure::new("Configuration", chain(&e)))?;
        match Client::connect(&address) {
            Ok(client) => Ok(Agent::Service(client)),
            Err(error) if settings.socket.is_some() => Err(error.into()),
            Err(ClientError::Connect { source, .. })
                if matches!(
                    source.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) =>
            {
                match may_use(base, need) {
                    true => Ok(here()),
                    false => {
                        let failure = no_access(base, need);
                        let message = format!(
                            "no service listens at {address}, and this user {}",
                            failure.message
                        );
                        Err(Failure { message, ..failure }
                            .hint("`systemctl start avocadoctl.socket` starts the service; root can do without"))
                    }
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn list(self) -> Result<Vec<Runtime>, Failure> {
        match self {
            Agent::Here(device) => match device.list() {
                Ok(entries) => Ok(entries.into_iter().map(Runtime::from).collect()),
                Err(error) => Err(Declared::of(&error, false).into()),
            },
            Agent::Service(client) => Ok(call::<Listed>(client, "List", &json!({}))?.runtimes),
        }
    }

    pub(crate) fn inspect(self, id: Option<&str>) -> Result<Runtime, Failure> {
        let found = match self {
            Agent::Here(device) => match device.inspect(id) {
                Ok(entry) => Ok(entry.into()),
                Err(error) => Err(Declared::of(&error, false).into()),
            },
            Agent::Service(client) => {
                let parameters = id.map_or(json!({}), |id| json!({"id": id}));
                call::<Inspected>(client, "Inspect", &parameters).map(|i| i.runtime)
            }
        };
        found.map_err(
            |failure| match id.is_none() && failure.kind == "RuntimeNotFound" {
                true => Failure {
                    message: "no runtime is active on this device".to_owned(),
                    ..failure
                }
                .hint("`avocadoctl runtime activate ID` makes one active"),
                false => failure,
            },
        )
    }

    pub(crate) fn add_from_url(self, request: AddFromUrl, talk: &Talk) -> Result<Runtime, Failure> {
        match self {
            Agent::Here(device) => staged(device.add_from_url(&add_request(request), talk), false),
            Agent::Service(client) => stream(client, "AddFromUrl", &json!(request), talk),
        }
    }

    pub(crate) fn add_from_manifest(self, path: &Path, talk: &Talk) -> Result<Runtime, Failure> {
        // The service has another working directory.
        let path: PathBuf = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        match self {
            Agent::Here(device) => staged(device.add_from_manifest(&path, talk), false),
            Agent::Service(client) => {
                let Some(path) = path.to_str() else {
                    let message = format!("{} is not UTF-8, as varlink needs it", path.display());
                    return Err(Failure::new("Path", message));
                };
                let parameters = json!({"manifestPath": path});
                stream(client, "AddFromManifest", &parameters, talk)
            }
        }
    }

    pub(crate) fn activate(self, id: &str, talk: &Talk) -> Result<Runtime, Failure> {
        match self {
            Agent::Here(device) => staged(device.activate(id, talk), true),
            Agent::Service(client) => stream(client, "Activate", &json!({"id": id}), talk),
        }
    }

    pub(crate) fn remove(self, id: &str, talk: &Talk) -> Result<(), Failure> {
        match self {
            Agent::Here(device) => device
                .remove(id, talk)
                .map_err(|error| Declared::of(&error, false).into()),
            Agent::Service(client) => {
                call::<Value>(client, "Remove", &json!({"id": id})).map(|_| ())
            }
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

fn staged(result: Result<RuntimeEntry, Error>, activating: bool) -> Result<Runtime, Failure> {
    result
        .map(Runtime::from)
        .map_err(|error| Declared::of(&error, activating).into())
}

fn call<R: serde::de::DeserializeOwned>(
    mut client: Client,
    method: &str,
    parameters: &Value,
) -> Result<R, Failure> {
    Ok(client.call(&format!("org.avocado.Runtimes.{method}"), parameters)?)
}

fn stream(
    client: Client,
    method: &str,
    parameters: &Value,
    talk: &Talk,
) -> Result<Runtime, Failure> {
    let method = format!("org.avocado.Runtimes.{method}");
    for reply in client.call_more::<Progressed>(&method, parameters)? {
        let reply = reply?;
        if let Some(runtime) = reply.runtime {
            return Ok(runtime);
        }
        if !reply.done && !reply.message.is_empty() {
            talk.say(&reply.message);
        }
    }
    Err(Failure::new(
        "Connection",
        format!("the service did not say what {method} came to"),
    ))
}

fn no_access(base: &Path, need: Need) -> Failure {
    let verb = match need {
        Need::Read => "read",
        Need::Write => "change",
    };
    Failure::new(
        "PermissionDenied",
        format!("may not {verb} {}", base.display()),
    )
    .hint("run it as root")
}

/// Whether this user may use the store, or make it where it does not exist yet.
fn may_use(base: &Path, need: Need) -> bool {
    let access = match need {
        Need::Read => Access::READ_OK | Access::EXEC_OK,
        Need::Write => Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK,
    };
    let existing = base
        .ancestors()
        .find(|path| path.symlink_metadata().is_ok());
    match existing {
        // A store that does not exist is empty: everybody may see that.
        Some(path) if path != base && need == Need::Read => true,
        Some(path) => rustix::fs::access(path, access).is_ok(),
        None => false,
    }
}
