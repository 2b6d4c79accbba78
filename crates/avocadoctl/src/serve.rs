//! `avocadoctl serve`: the service on its socket.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use avocado_device::{Config, Device};
use avocado_events::Silent;
use avocado_varlink::activation::Variables;
use avocado_varlink::client::Address;
use avocado_varlink::server::{Ended, Info, Listener, Options, Server};
use rustix::process::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::Serve;
use crate::failure::{Failure, chain};
use crate::service::Agent;

/// Who may connect to a socket that we make ourselves: its owner and group.
const SOCKET_MODE: u32 = 0o660;

/// Runs the service to its end.
pub(crate) fn run(args: &Serve, config: Config, passed: &Variables) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::new("Serve", chain(error));
    let sockets = match args.address {
        Some(_) => Vec::new(),
        None => passed.take().map_err(|e| {
            Failure::new(
                "Serve",
                format!("the sockets that were passed cannot be used: {e}"),
            )
        })?,
    };
    let idle = Duration::from_secs(args.exit_on_idle);
    let options = Options {
        exit_on_idle: (!sockets.is_empty() && !idle.is_zero()).then_some(idle),
        ..Options::default()
    };
    let address = args
        .address
        .clone()
        .unwrap_or_else(|| config.socket.clone());
    let device = Device::new(config);
    finish_activation(device.clone());
    let service = Agent::new(device, log).map_err(|e| failed(&e))?;
    allow_many_files();
    let mut server = Server::new(Arc::new(service), info(), options).map_err(|e| failed(&e))?;
    server
        .stop_on(termination().map_err(|e| failed(&e))?)
        .map_err(|e| failed(&e))?;
    if sockets.is_empty() {
        let address: Address = address.parse().map_err(|e| failed(&e))?;
        if let Some(directory) = address.path().parent() {
            std::fs::create_dir_all(directory).map_err(|e| {
                Failure::new("Serve", format!("cannot make {}: {e}", directory.display()))
            })?;
        }
        let listener = Listener::bind(address.path(), SOCKET_MODE).map_err(|e| failed(&e))?;
        server.listen(listener).map_err(|e| failed(&e))?;
        log(&format!("listening on {address}"));
    }
    for (socket, listens) in sockets {
        let taken = match listens {
            true => server.listen(Listener::from_fd(socket)),
            false => server.adopt(socket),
        };
        taken.map_err(|e| failed(&e))?;
    }
    match server.run().map_err(|e| failed(&e))? {
        Ended::Idle => log("idle: exiting until the next client"),
        Ended::Stopped => log("stopped"),
        Ended::NoClients => {}
    }
    Ok(())
}

/// What a service that was killed left half done is finished first; clients need not wait for it.
fn finish_activation(device: Device) {
    std::thread::spawn(move || match device.finish_activation(&Silent) {
        Ok(true) => log("finished an activation that was cut off"),
        Ok(false) => {}
        Err(e) => log(&format!("cannot finish an activation: {}", chain(&e))),
    });
}

fn info() -> Info {
    Info {
        vendor: "org.avocado".to_owned(),
        product: "avocadoctl".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        url: "https://avocado-linux.org".to_owned(),
    }
}

/// A descriptor that becomes readable when the process is asked to end.
fn termination() -> std::io::Result<OwnedFd> {
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

fn log(line: &str) {
    // There is nowhere to report that the log is gone.
    let _ = writeln!(std::io::stderr(), "{}", crate::failure::printable(line));
}
