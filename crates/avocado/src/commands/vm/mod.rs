//! `avocado vm`: the development VM.

mod config;
mod image;
mod launch;
mod logs;
mod machine;
mod shell;
mod start;
mod status;
mod stop;
mod supervise;
mod update;

use std::process::ExitCode;

use avocado_vm::dir::StateDir;

use super::Session;
use crate::cli::VmCommand;
use crate::failure::{Failure, Result};

pub(super) fn run(session: &Session, command: &VmCommand) -> Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        VmCommand::Start(args) => start::run(session, args).map(done),
        VmCommand::Stop(args) => stop::run(session, args).map(done),
        VmCommand::Status => status::run(session).map(done),
        VmCommand::Shell(args) => shell::run(session, args),
        VmCommand::Logs(args) => logs::run(session, args).map(done),
        VmCommand::Rebuild(args) => image::rebuild(session, args).map(done),
        VmCommand::Reset(args) => image::reset(session, args).map(done),
        VmCommand::Update(args) => update::run(session, args).map(done),
        VmCommand::Config(command) => config::run(session, command).map(done),
        VmCommand::Supervise(args) => supervise::run(session, args),
    }
}

fn state_dir(session: &Session) -> Result<StateDir> {
    Ok(StateDir::new(session.environment.vm_state_dir()?))
}

fn failure(error: avocado_vm::Error) -> Failure {
    Failure::from_error(&error).maybe_hint(error.hint())
}
