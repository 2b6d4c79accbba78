//! What each command does: it reads the project, calls the crate that does the work, and says
//! how it went.

mod build;
mod clean;
pub(crate) mod deploy;
mod ext;
mod init;
mod project;
mod signing_keys;

use std::process::ExitCode;
use std::sync::Arc;

use clap::CommandFactory;

use crate::cli::{Cli, Command, ExtCommand, Global, OsImageCommand, RuntimeCommand};
use crate::environment::Environment;
use crate::failure::{Failure, Result};
use crate::output::{Output, write_data};

/// What every command works with.
pub(crate) struct Session {
    pub(crate) environment: Environment,
    pub(crate) global: Global,
    pub(crate) output: Arc<Output>,
}

/// Runs a command and reports a failure. The result is the exit code.
pub(crate) fn run(cli: Cli, environment: Environment) -> ExitCode {
    if let Command::Step = cli.command {
        return avocado_build::step_main();
    }
    let session = Session {
        output: Arc::new(Output::new(&cli.global, &environment)),
        environment,
        global: cli.global,
    };
    match check_options(&session.global).and_then(|()| dispatch(&session, &cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            session.output.fail(&failure);
            ExitCode::from(failure.code as u8)
        }
    }
}

fn dispatch(session: &Session, command: &Command) -> Result<()> {
    match command {
        Command::Init(args) => init::run(session, args),
        Command::Install(args) => build::install(session, args),
        Command::Build(args) => build::build(session, args),
        Command::Update => build::update(session),
        Command::Ext(ExtCommand::Image(args)) => build::ext_image(session, args),
        Command::Ext(ExtCommand::Build(args)) => build::ext_build(session, args),
        Command::Ext(ExtCommand::List) => ext::list(session),
        Command::Runtime(RuntimeCommand::Build { runtime, tools }) => {
            build::runtime_build(session, runtime, tools)
        }
        Command::Rootfs(OsImageCommand::Image(args)) => build::rootfs_image(session, args),
        Command::Initramfs(OsImageCommand::Image(args)) => build::initramfs_image(session, args),
        Command::SigningKeys(command) => signing_keys::run(session, command),
        Command::Deploy(args) => deploy::run(session, args),
        Command::Clean(args) => clean::run(session, args),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "avocado", &mut script);
            write_data(&script)
        }
        // Answered before there was a session.
        Command::Step => Ok(()),
    }
}

/// Options that peers know and this version does not act on: better refused than ignored.
fn check_options(global: &Global) -> Result<()> {
    let unsupported = [
        ("--runs-on", global.runs_on.is_some()),
        ("--nfs-port", global.nfs_port.is_some()),
        ("--sdk-arch", global.sdk_arch.is_some()),
    ];
    match unsupported.iter().find(|(_, used)| *used) {
        None => Ok(()),
        Some((option, _)) => Err(Failure::usage(format!("{option} is not supported yet"))
            .hint("run the command on the machine that shall do the work")),
    }
}

/// Quotes a text for a POSIX shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
