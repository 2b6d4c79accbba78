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
use std::process::ExitCode;
use std::sync::Arc;

use avocado_fs::OpenFileWarning;
use avocado_serve::{FileServer, ServeArguments, ServedRequest};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Serves the files of a directory over HTTP(S) until it is interrupted.
#[derive(Parser)]
#[command(name = "avocado-serve", version)]
struct Arguments {
    #[command(flatten)]
    serve: ServeArguments,
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
    let warn = |warning: OpenFileWarning| eprintln!("warning: {warning}");
    let options = arguments.serve.options(Arc::new(list), &warn)?;
    let server = FileServer::start(options)?;
    println!("{}", server.url());
    std::io::stdout().flush()?;
    signals.forever().next();
    server.stop();
    Ok(())
}

fn list(request: &ServedRequest) {
    if let Some(line) = request.log_line() {
        eprintln!("{line}");
    }
}
