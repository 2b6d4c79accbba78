//! `avocado vm shell`.

use clap::Args;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
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

/// From here on this process is that program of OpenSSH: its signals, its terminal and its exit code.
pub(super) fn become_program(mut program: Command) -> Result<ExitCode> {
    let error = program.exec();
    let name = program.get_program().display();
    Err(match error.kind() {
        ErrorKind::NotFound => Failure::new(format!("there is no {name} on this machine"))
            .hint("install an OpenSSH client, 8.7 or newer"),
        _ => Failure::new(format!("cannot start {name}")).because(&error),
    })
}
