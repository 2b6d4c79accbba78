//! `avocado ext image`.

use std::path::PathBuf;

use clap::Args;

use super::ExtArgs;
use crate::commands::build_run::{BuildRun, Goal};
use crate::failure::Result;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct ExtImageArgs {
    #[command(flatten)]
    pub(crate) ext: ExtArgs,

    /// Output directory on host to copy the resulting .raw image to
    #[arg(long = "out", value_name = "OUT_DIR")]
    pub(crate) out_dir: Option<PathBuf>,
}

pub(super) fn run(session: &Session, args: &ExtImageArgs) -> Result<()> {
    BuildRun::new(session, "ext image", &args.ext.tools)?
        .copy_to(args.out_dir.as_deref())
        .run(Goal::ExtImage(args.ext.name().cloned()))
}
