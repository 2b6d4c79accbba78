//! The host CLI: arguments, output, dispatch.

mod commands;
mod environment;
mod failure;
mod global_args;
#[cfg(unix)]
mod interrupt;
mod logging;
mod output;
#[cfg(target_os = "linux")]
mod owner;
mod session;

use std::process::ExitCode;

fn main() -> ExitCode {
    let environment = environment::Environment::read();
    if commands::answer_shell(&environment) {
        return ExitCode::SUCCESS;
    }
    commands::run(commands::parse(), environment)
}
