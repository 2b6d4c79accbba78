//! `avocado vm cp`.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use avocado_vm::copy::{self, CopySidesError};
use clap::Args;

use super::shell::become_program;
use super::{machine, state_dir};
use crate::failure::{Failure, Result};
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// Directories too, with everything in them
    #[arg(short, long)]
    pub(crate) recursive: bool,

    /// What to copy; `guest:PATH` is in the guest, all others are not
    #[arg(value_name = "SRC", required = true, num_args = 1..)]
    pub(crate) sources: Vec<OsString>,

    /// Where to; `guest:PATH` where the sources are on this machine
    #[arg(value_name = "DST")]
    pub(crate) destination: OsString,
}

pub(super) fn run(session: &Session, args: &CpArgs) -> Result<ExitCode> {
    let dir = state_dir(session)?;
    let arguments = copy::scp_arguments(&dir, &args.sources, &args.destination, args.recursive);
    let arguments = arguments.map_err(|error| {
        Failure::usage(error.to_string()).hint(match error {
            CopySidesError::Empty => {
                "is a variable set that the shell put there? `.` is this directory"
            }
            _ => "sources on one side, destination on the other: `guest:PATH` is in the guest",
        })
    })?;
    machine::supervised(&dir)?;
    let mut scp = Command::new("scp");
    scp.args(arguments);
    become_program(scp)
}
