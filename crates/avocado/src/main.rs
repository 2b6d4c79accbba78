//! The host CLI: arguments, output, dispatch.

mod cli;
mod commands;
mod environment;
mod failure;
mod interrupt;
mod output;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    commands::run(cli::Cli::parse(), environment::Environment::read())
}
