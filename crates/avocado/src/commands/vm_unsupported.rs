//! `avocado vm` where there is none.

use std::ffi::OsString;

use clap::Args;

use crate::failure::{Failure, Result};
use crate::session::Session;

/// Whatever follows, to be refused in our own words.
#[derive(Debug, Args)]
pub(crate) struct VmArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<OsString>,
}

pub(super) fn run(_session: &Session, _command: &VmArgs) -> Result<std::process::ExitCode> {
    Err(Failure::usage("the VM is not supported on this system"))
}
