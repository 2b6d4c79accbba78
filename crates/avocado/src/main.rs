//! The host CLI: arguments, output, dispatch.

mod cli;
mod commands;
mod environment;
mod failure;
#[cfg(unix)]
mod interrupt;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::run(cli::parse(), environment::Environment::read())
}
