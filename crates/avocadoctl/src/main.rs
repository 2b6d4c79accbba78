//! The device CLI and varlink service. All of it is in the library of this crate, so that its
//! manual can be made from the same definitions.
// Devices run Linux; elsewhere there is nothing of this program.
#![cfg_attr(not(target_os = "linux"), no_main)]
#![cfg(target_os = "linux")]

// Only the profile `device` aborts at a panic.
#[cfg(panic = "abort")]
mod no_unwinding;

use std::process::ExitCode;

fn main() -> ExitCode {
    avocadoctl::main()
}
