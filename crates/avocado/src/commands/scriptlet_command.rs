//! `avocado scriptlet-command`: what a package's scriptlet calls to change the system that it believes
//! to run on, answered on the tree that is installed.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct ScriptletCommandArgs {
    /// The path of the command that was called, and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    call: Vec<OsString>,
}

pub(super) fn run(args: &ScriptletCommandArgs) -> ExitCode {
    let end = avocado_build::scriptlet_command(&args.call);
    let mut written = io::stdout().write_all(end.output.as_bytes());
    if !end.complaint.is_empty() {
        let name = args.call.first().map(std::path::Path::new);
        let name = name
            .and_then(std::path::Path::file_name)
            .unwrap_or_default();
        let line = format!("{}: {}\n", name.display(), end.complaint);
        written = written.and(io::stderr().write_all(line.as_bytes()));
    }
    match written {
        Ok(()) => ExitCode::from(end.status),
        Err(_) => ExitCode::FAILURE,
    }
}
