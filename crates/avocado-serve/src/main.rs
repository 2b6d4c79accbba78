//! `avocado-serve`: a directory over HTTP(S), from the command line.
// As the library.
#![cfg_attr(not(target_os = "linux"), no_main)]
#![cfg(target_os = "linux")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its user"
)]

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use avocado_serve::{Faults, Options, Outcome, Rule, Server, Tls};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Serves the files of a directory over HTTP(S) until it is interrupted.
#[derive(Parser)]
#[command(name = "avocado-serve", version)]
struct Arguments {
    /// The directory whose files are served
    directory: PathBuf,
    /// Where to listen; port 0 takes any free port
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "IP:PORT")]
    address: SocketAddr,
    /// The bearer token that every request must carry
    #[arg(long)]
    token: Option<String>,
    /// The PEM file of the server's certificate, with its intermediate ones; switches TLS on
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The PEM file of the certificate's key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// What shall go wrong, as FAULT@PATH[#COUNT]: 404@*.raw#1, cut=1000@/targets/,
    /// stall=0@*, ignore-range@*, corrupt=7@manifest.json
    #[arg(long = "fault", value_name = "SPEC")]
    faults: Vec<Rule>,
    /// Do not list the requests on stderr
    #[arg(short, long)]
    quiet: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    // Before the server starts, so that no signal is missed.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let faults = Faults::default();
    arguments
        .faults
        .into_iter()
        .for_each(|rule| faults.add(rule));
    let tls = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(cert), Some(key)) => Some(Tls {
            cert_pem: read(cert)?,
            key_pem: read(key)?,
        }),
        _ => None,
    };
    let server = Server::start(Options {
        root: arguments.directory,
        address: arguments.address,
        token: arguments.token,
        tls,
        faults,
        on_request: (!arguments.quiet).then(|| Arc::new(list) as _),
    })?;
    println!("{}", server.url());
    std::io::stdout().flush()?;
    signals.forever().next();
    server.stop();
    Ok(())
}

fn list(request: &avocado_serve::Request) {
    if matches!(request.outcome, Outcome::Complete | Outcome::Broken) {
        let broken = match request.outcome {
            Outcome::Broken => " (broken off)",
            _ => "",
        };
        eprintln!(
            "{} {} {} {} {} of {} bytes{broken}",
            request.client.ip(),
            request.status,
            request.method,
            request.path,
            request.sent,
            request.total,
        );
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
