//! `avocado manual`: what `scripts/dist` puts into the packages beside the program.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::failure::{Context as _, Result};

#[derive(Debug, Args)]
pub(crate) struct ManualArgs {
    /// Where to write them; it is made
    directory: PathBuf,
}

/// Writes a man page for each command.
pub(super) fn run(args: &ManualArgs) -> Result<()> {
    let directory = &args.directory;
    let what = || format!("cannot write man pages to {}", directory.display());
    fs::create_dir_all(directory).context(what)?;
    clap_mangen::generate_to(super::command(), directory).context(what)
}
