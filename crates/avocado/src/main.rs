//! The host CLI: arguments, output, dispatch.

mod commands;
mod environment;
mod failure;
mod global_args;
#[cfg(unix)]
mod interrupt;
mod logging;
mod output;
mod owner;
mod session;

use std::process::ExitCode;

use clap::Parser as _;

/// That of musl asks the kernel for each page and gives it back at once: half of what reading a project took.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let environment = environment::Environment::read();
    if commands::answer_shell(&environment) {
        return ExitCode::SUCCESS;
    }
    commands::run(commands::Cli::parse(), environment)
}
