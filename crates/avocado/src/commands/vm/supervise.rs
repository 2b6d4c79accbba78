//! `avocado vm supervise`: the process that owns a VM. People do not call it.

use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

use avocado_vm::dir::StateDir;
use avocado_vm::supervisor;

use super::state_dir;
use crate::failure::Result;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct SuperviseArgs {
    /// The state directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

pub(super) fn run(session: &Session, args: &SuperviseArgs) -> Result<ExitCode> {
    let dir = match &args.dir {
        Some(dir) => StateDir::new(dir),
        None => state_dir(session)?,
    };
    let path = session.environment.search_path();
    // What failed was told on the standard output, in the words that `vm start` reads.
    Ok(match supervisor::main(&dir, Some(path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}
