//! `avocado install`.

use clap::Args;

use super::Session;
use super::build_run::{BuildRun, Goal};
use super::tools::ToolArgs;
use crate::failure::Result;

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    pub(crate) tools: ToolArgs,
}

pub(super) fn run(session: &Session, args: &InstallArgs) -> Result<()> {
    BuildRun::new(session, "install", &args.tools)?.run(Goal::Install)
}
