//! `avocadoctl serve`: the service on its socket.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use avocado_device::{Device, DeviceConfig};
use avocado_varlink::activation::ListenVariables;
use avocado_varlink::client::VarlinkAddress;
use avocado_varlink::server::{Listener, ServerEnd, ServerOptions, ServiceInfo, VarlinkServer};
use clap::Args;
use rustix::process::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::failure::{Failure, chain};
use crate::service::{DeviceService, warn};

/// Who may connect to a socket that we make ourselves: its owner and group.
const SOCKET_MODE: u32 = 0o660;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Listen here [default: the socket that systemd passes, else that of the configuration]
    #[arg(long)]
    pub(crate) address: Option<String>,
    /// Exit after so many seconds without a client; 0 for never. Applies only when the sockets
    /// come from systemd, which starts the service again for the next client
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) exit_on_idle: u64,
}

/// Runs the service to its end.
pub(super) fn run(
    args: &ServeArgs,
    config: DeviceConfig,
    passed: &ListenVariables,
) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::Serve(chain(error));
    let sockets = match args.address {
        Some(_) => Vec::new(),
        None => passed.take().map_err(|e| {
            Failure::Serve(format!("the sockets that were passed cannot be used: {e}"))
        })?,
    };
    let idle = Duration::from_secs(args.exit_on_idle);
    let options = ServerOptions {
        exit_on_idle: (!sockets.is_empty() && !idle.is_zero()).then_some(idle),
        ..ServerOptions::default()
    };
    let address = args
        .address
        .clone()
        .unwrap_or_else(|| config.socket.clone());
    let device = Device::new(config);
    finish_activation(device.clone());
    let service = DeviceService::new(device).map_err(|e| failed(&e))?;
    allow_many_files();
    let mut server =
        VarlinkServer::new(Arc::new(service), info(), options).map_err(|e| failed(&e))?;
    server
        .stop_on(termination().map_err(|e| failed(&e))?)
        .map_err(|e| failed(&e))?;
    if sockets.is_empty() {
        let address: VarlinkAddress = address.parse().map_err(|e| failed(&e))?;
        if let Some(directory) = address.path().parent() {
            std::fs::create_dir_all(directory)
                .map_err(|e| Failure::Serve(format!("cannot make {}: {e}", directory.display())))?;
        }
        let listener = Listener::bind(address.path(), SOCKET_MODE).map_err(|e| failed(&e))?;
        server.listen(listener).map_err(|e| failed(&e))?;
        tracing::info!("listening on {address}");
    }
    for (socket, listens) in sockets {
        let taken = if listens {
            server.listen(Listener::from_fd(socket))
        } else {
            server.adopt(socket)
        };
        taken.map_err(|e| failed(&e))?;
    }
    match server.run().map_err(|e| failed(&e))? {
        ServerEnd::Idle => tracing::info!("idle: exiting until the next client"),
        ServerEnd::Stopped => tracing::info!("stopped"),
        ServerEnd::NoClients => {}
    }
    Ok(())
}

/// What a service that was killed left half done is finished first; clients need not wait for it.
fn finish_activation(device: Device) {
    std::thread::spawn(move || match device.finish_activation(&warn) {
        Ok(true) => tracing::info!("finished an activation that was cut off"),
        Ok(false) => {}
        Err(e) => tracing::error!("cannot finish an activation: {}", chain(&e)),
    });
}

fn info() -> ServiceInfo {
    ServiceInfo {
        vendor: "org.avocado".to_owned(),
        product: "avocadoctl".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        url: "https://avocado-linux.org".to_owned(),
    }
}

/// A descriptor that becomes readable when the process is asked to end.
pub(super) fn termination() -> std::io::Result<OwnedFd> {
    let (read, write) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read.into())
}

/// Each connection takes a descriptor, and the usual limit is low.
fn allow_many_files() {
    const ENOUGH: u64 = 8192;
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(ENOUGH);
    if limit.current.is_some_and(|current| current < ENOUGH) {
        limit.current = Some(ENOUGH.min(most));
        // Without it there are fewer clients at a time.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
