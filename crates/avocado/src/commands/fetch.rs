//! `avocado fetch`.

use avocado_manifest::Name;
use clap::Args;

use super::build_run::BuildRun;
use super::tools::ToolArgs;
use crate::failure::Result;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// Fetch this extension only
    #[arg(short, long, value_name = "EXTENSION", conflicts_with = "runtime")]
    pub(crate) extension: Option<Name>,

    /// Fetch the extensions of this runtime only
    #[arg(short, long, value_name = "RUNTIME")]
    pub(crate) runtime: Option<Name>,

    #[command(flatten)]
    pub(crate) tools: ToolArgs,
}

pub(super) fn run(session: &Session, args: &FetchArgs) -> Result<()> {
    BuildRun::new(session, "fetch", &args.tools)?
        .run_fetch(args.extension.as_ref(), args.runtime.as_ref())
}
