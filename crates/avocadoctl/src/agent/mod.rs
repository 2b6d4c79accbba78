//! The two doors to the device: the service behind its socket, or the same functions in this
//! process.

mod extensions;
mod runtimes;

use std::io::ErrorKind;
use std::path::Path;

use avocado_device::{Config, Device};
use avocado_events::Sink;
use avocado_varlink::client::{Address, Client, ClientError};
use rustix::fs::Access;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{CLOSED, Failure, chain};
use crate::model::Progressed;
use crate::progress::Talk;

pub(crate) use extensions::Merging;
pub(crate) use runtimes::{Origin, add_request, prune_options};

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

    /// Opens our own door where the service's was shut before it did anything. A service manager
    /// does that while it stops: it takes the connection, and starts no service for it.
    pub(crate) fn open_instead(
        settings: &Settings,
        need: Need,
        failure: Failure,
    ) -> Result<Self, Failure> {
        let mine = settings.socket.is_none() && may_use(&settings.config.base, need);
        match failure.kind.as_str() {
            CLOSED if mine => Ok(Agent::Here(Box::new(Device::new(settings.config.clone())))),
            _ => Err(failure),
        }
    }

    /// Calls a method that answers once.
    fn call<R: DeserializeOwned>(
        client: &mut Client,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<R, Failure> {
        Ok(client.call(method, parameters)?)
    }

    /// Calls a method that tells about its progress, and gives its last reply.
    fn stream(
        client: Client,
        method: &str,
        parameters: &impl Serialize,
        talk: &Talk,
    ) -> Result<Progressed, Failure> {
        for reply in client.call_more::<Progressed>(method, parameters)? {
            let reply = reply?;
            if reply.done {
                return Ok(reply);
            }
            match reply.progress {
                Some(progress) => talk.emit(progress.event()),
                None => talk.say(&reply.message),
            }
        }
        Err(Failure::new(
            "Connection",
            format!("the service did not say what {method} came to"),
        ))
    }
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
