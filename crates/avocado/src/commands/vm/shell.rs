//! `avocado vm shell`.

use clap::Args;
use std::process::{Command, ExitCode};

use avocado_vm::access;

use super::{machine, state_dir};
use crate::failure::{Failure, Result};
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// The command to run in the guest instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

pub(super) fn run(session: &Session, args: &ShellArgs) -> Result<ExitCode> {
    let dir = state_dir(session)?;
    let status = machine::supervised(&dir)?;
    let Some(port) = status.ports.ssh else {
        return Err(machine::not_running());
    };
    let terminal = session.environment.has_terminal();
    let mut ssh = Command::new("ssh");
    ssh.args(access::shell_arguments(&dir, port, &args.command, terminal));
    become_program(ssh)
}

/// From here on this process is ssh: its signals, its terminal and its exit code.
#[cfg(unix)]
fn become_program(mut ssh: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    Err(cannot_start(&ssh.exec()))
}

#[cfg(not(unix))]
fn become_program(mut ssh: Command) -> Result<ExitCode> {
    let status = ssh.status().map_err(|e| cannot_start(&e))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(u8::MAX)))
}

fn cannot_start(error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new("there is no ssh on this machine").hint("install an OpenSSH client")
        }
        _ => Failure::new("cannot start ssh").because(error),
    }
}
