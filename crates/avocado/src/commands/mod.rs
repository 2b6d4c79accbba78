//! What each command does: it reads the project, calls the crate that does the work, and says
//! how it went.

#[cfg(target_os = "linux")]
mod build;
#[cfg(target_os = "linux")]
mod clean;
#[cfg(target_os = "linux")]
pub(crate) mod deploy;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
mod ext;
mod init;
mod project;
mod signing_keys;
#[cfg(unix)]
mod vm;

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{Cli, Command, ExtCommand, Global, OsImageCommand, RuntimeCommand};
use crate::environment::Environment;
use crate::failure::{Failure, Result};
use crate::output::{Output, write_data};
#[cfg(not(target_os = "linux"))]
use elsewhere::{build, clean};

#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::deploy;

/// What every command works with.
pub(crate) struct Session {
    pub(crate) environment: Environment,
    pub(crate) global: Global,
    pub(crate) output: Arc<Output>,
}

/// Runs a command and reports a failure. The result is the exit code.
pub(crate) fn run(cli: Cli, environment: Environment) -> ExitCode {
    if let Command::Step = cli.command {
        return build::step_main();
    }
    let session = Session {
        output: Arc::new(Output::new(&cli.global, &environment)),
        environment,
        global: cli.global,
    };
    match check_options(&session.global).and_then(|()| dispatch(&session, &cli.command)) {
        Ok(code) => code,
        Err(failure) => {
            session.output.fail(&failure);
            ExitCode::from(failure.code as u8)
        }
    }
}

fn dispatch(session: &Session, command: &Command) -> Result<ExitCode> {
    let done = match command {
        #[cfg(unix)]
        Command::Vm(command) => return vm::run(session, command),
        #[cfg(not(unix))]
        Command::Vm(_) => Err(Failure::usage("the VM is not supported on this system")),
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
            clap_complete::generate(*shell, &mut crate::cli::command(), "avocado", &mut script);
            write_data(&script)
        }
        // Answered before there was a session.
        Command::Step => Ok(()),
    };
    done.map(|()| ExitCode::SUCCESS)
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
