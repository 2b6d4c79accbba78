//! `avocado build`.

use avocado_manifest::Name;
use clap::Args;

use super::build_run::{BuildRun, Goal};
use super::tools::ToolArgs;
use crate::failure::Result;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Build this runtime only
    #[arg(short, long, value_name = "RUNTIME", conflicts_with = "extension")]
    pub(crate) runtime: Option<Name>,

    /// Build the image of this extension only
    #[arg(short, long, value_name = "EXTENSION")]
    pub(crate) extension: Option<Name>,

    /// Leave out the var partition and the image of a VM, which no deployment needs
    #[arg(long, conflicts_with = "extension")]
    pub(crate) no_var: bool,

    /// Publish no runtime of which the build warns that files of its extensions hide others, or
    /// that no device will show them
    #[arg(long, conflicts_with = "extension")]
    pub(crate) strict: bool,

    #[command(flatten)]
    pub(crate) tools: ToolArgs,
}

pub(super) fn run(session: &Session, args: &BuildArgs) -> Result<()> {
    let run = BuildRun::new(session, "build", &args.tools)?.strict(args.strict);
    match &args.extension {
        Some(extension) => run.run(Goal::ExtImage(Some(extension.clone()))),
        None => run
            .without_var(args.no_var)
            .run_runtime(args.runtime.as_ref()),
    }
}
