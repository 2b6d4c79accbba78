//! The whole route on real parts: a project becomes images, a signed repository and a running
//! device, which updates itself from it and goes back.
// As the library.
#![cfg_attr(not(target_os = "linux"), no_main)]
#![cfg(target_os = "linux")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its user"
)]

mod board;
mod device;
mod story;

use std::error::Error;
use std::process::ExitCode;

use avocado_testbed::cleanup;
use clap::Parser;

use story::Parts;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Shows the whole route: build, run, update, go back.
#[derive(Parser)]
struct Arguments {
    /// On a machine in QEMU that boots a disk image and updates its operating system: minutes, emulated
    #[arg(long)]
    vm: bool,
    /// How long the caller took to install the tools
    #[arg(long, default_value_t = 0, hide = true)]
    setup_seconds: u64,
    /// How long the caller took to build the programs
    #[arg(long, default_value_t = 0, hide = true)]
    build_seconds: u64,
}

fn main() -> ExitCode {
    let ended = run(&Arguments::parse());
    cleanup::wait_where_ending();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  caused by: {error}");
                cause = error.source();
            }
            println!("quickstart: failed");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    cleanup::install()?;
    let mut parts = Parts::new(arguments);
    if arguments.vm {
        board::run(&mut parts)?;
    } else {
        device::run(&mut parts)?;
    }
    parts.print();
    println!("\nquickstart: ok");
    Ok(())
}
