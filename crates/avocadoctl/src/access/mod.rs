//! The two ways to the device: the service behind its socket, or the same functions in this
//! process. Results and failures are the same by either.

mod extensions;
mod hitl;
mod runtimes;

use std::io::ErrorKind;
use std::path::Path;

use avocado_device::{Device, DeviceConfig};
use avocado_events::Sink;
use avocado_varlink::client::{ClientError, VarlinkAddress, VarlinkClient};
use rustix::fs::Access;
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, chain};
use crate::interface::ProgressReply;
use crate::progress::ProgressPrinter;

pub(crate) use extensions::MergeAction;
pub(crate) use runtimes::{RuntimeOrigin, add_request, prune_options};

/// What decides which way is taken.
#[derive(Debug)]
pub(crate) struct AccessSettings {
    pub(crate) config: DeviceConfig,
    /// The service that the user wants, and no other way.
    pub(crate) socket: Option<String>,
    /// The user named the store itself, which the service may not serve.
    pub(crate) own_base: bool,
}

/// What a command does with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessMode {
    Read,
    Write,
}

/// A way to the device.
#[derive(Debug)]
pub(crate) enum DeviceAccess {
    Direct(Box<Device>),
    Service(VarlinkClient),
}

impl DeviceAccess {
    /// By the service if there is one, and else directly, if the caller may use the store.
    pub(crate) fn open(settings: &AccessSettings, mode: AccessMode) -> Result<Self, Failure> {
        if settings.own_base && settings.socket.is_none() {
            return Self::open_store(settings, mode, None);
        }
        let text = settings.socket.as_ref().unwrap_or(&settings.config.socket);
        let address: VarlinkAddress = text
            .parse()
            .map_err(|e| Failure::Configuration(chain(&e)))?;
        match VarlinkClient::connect(&address) {
            Ok(client) => {
                tracing::info!("by the service at {address}");
                Ok(DeviceAccess::Service(client))
            }
            Err(error) if settings.socket.is_some() => Err(error.into()),
            Err(ClientError::Connect { source, .. })
                if matches!(
                    source.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) =>
            {
                Self::open_store(settings, mode, Some(address))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Directly, where the service hung up before it did anything. A service manager does that
    /// while it stops: it takes the connection, and starts no service for it.
    pub(crate) fn open_instead(
        settings: &AccessSettings,
        mode: AccessMode,
        failure: Failure,
    ) -> Result<Self, Failure> {
        let hung_up = matches!(failure, Failure::Connection(ClientError::Closed(_)));
        if hung_up && settings.socket.is_none() && may_use(&settings.config.base, mode) {
            Ok(Self::direct(settings))
        } else {
            Err(failure)
        }
    }

    /// Directly, if the caller may use the store; `service` is where no service listens.
    fn open_store(
        settings: &AccessSettings,
        mode: AccessMode,
        service: Option<VarlinkAddress>,
    ) -> Result<Self, Failure> {
        let base = &settings.config.base;
        if may_use(base, mode) {
            return Ok(Self::direct(settings));
        }
        Err(Failure::NoAccess {
            verb: match mode {
                AccessMode::Read => "read",
                AccessMode::Write => "change",
            },
            base: base.clone(),
            service,
        })
    }

    fn direct(settings: &AccessSettings) -> Self {
        tracing::info!("on the store at {}", settings.config.base.display());
        DeviceAccess::Direct(Box::new(Device::new(settings.config.clone())))
    }

    /// Calls a method that answers once.
    fn call<R: DeserializeOwned>(
        client: &mut VarlinkClient,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<R, Failure> {
        tracing::debug!(method, "calls");
        Ok(client.call(method, parameters)?)
    }

    /// Calls a method that tells about its progress, and gives its last reply.
    fn stream(
        client: VarlinkClient,
        method: &str,
        parameters: &impl Serialize,
        progress: &ProgressPrinter,
    ) -> Result<ProgressReply, Failure> {
        tracing::debug!(method, "calls");
        for reply in client.call_more::<ProgressReply>(method, parameters)? {
            let reply = reply?;
            if reply.done {
                return Ok(reply);
            }
            match reply.progress {
                Some(reported) => progress.emit(reported.event()),
                None => progress.say(&reply.message),
            }
        }
        Err(Failure::NoResult {
            method: Some(method.to_owned()),
        })
    }
}

/// Whether this user may use the store, or make it where it does not exist yet.
fn may_use(base: &Path, mode: AccessMode) -> bool {
    let access = match mode {
        AccessMode::Read => Access::READ_OK | Access::EXEC_OK,
        AccessMode::Write => Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK,
    };
    let existing = base
        .ancestors()
        .find(|path| path.symlink_metadata().is_ok());
    match existing {
        // A store that does not exist is empty: every user may see that.
        Some(path) if path != base && mode == AccessMode::Read => true,
        Some(path) => match rustix::fs::access(path, access) {
            // To merge from it nothing has to be written, and what has to says what is wrong.
            Err(Errno::ROFS) => rustix::process::geteuid().is_root(),
            other => other.is_ok(),
        },
        None => false,
    }
}
