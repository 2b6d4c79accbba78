//! `avocado vm supervise`: the process that owns a VM. People do not call it.

use std::process::ExitCode;

use avocado_vm::dir::StateDir;
use avocado_vm::supervisor;

use super::{Session, state_dir};
use crate::cli::VmSuperviseArgs;
use crate::failure::Result;

pub(super) fn run(session: &Session, args: &VmSuperviseArgs) -> Result<ExitCode> {
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
