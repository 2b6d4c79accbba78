//! Boots a device from a build's results and keeps it until it powers itself off, or Ctrl-C.
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
use std::path::PathBuf;
use std::process::ExitCode;

use avocado_testbed::cleanup;
use avocado_testbed::device::{DeviceOptions, TestDevice};
use avocado_testbed::keys::SshKeys;
use clap::Parser;

/// Boots a device and keeps it until it is interrupted or powers itself off; a reboot is one. It
/// changes neither the image nor the tree.
#[derive(Parser)]
struct Arguments {
    /// The image of the root file system
    rootfs: PathBuf,
    /// The tree that /var starts as
    var: PathBuf,
    /// Where the device keeps its things, and the key that opens it
    #[arg(long, default_value = "/tmp/avocado-device")]
    workdir: PathBuf,
}

fn main() -> ExitCode {
    let ended = run(Arguments::parse());
    cleanup::wait_where_ending();
    let Err(error) = ended else {
        return ExitCode::SUCCESS;
    };
    eprint!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
    ExitCode::FAILURE
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let keys = SshKeys::create(&arguments.workdir)?;
    let options = DeviceOptions::new(arguments.rootfs, arguments.var, arguments.workdir, keys);
    let mut device = TestDevice::boot(options)?;
    println!(
        "ssh {} root@{}",
        device.ssh_options().join(" "),
        device.address()
    );
    std::io::stdout().flush()?;
    // A signal ends the process, and its cleaning up the device.
    device.stay(|| println!("the device has booted again"))?;
    Ok(())
}
