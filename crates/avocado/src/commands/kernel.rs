//! `avocado kernel`: the kernels of the runtimes.

use clap::Subcommand;

use super::build_run::{BuildRun, Goal};
use super::os_image::ImageArgs;
use crate::failure::Result;
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum KernelCommand {
    /// Show the kernel of each runtime, of the feed or compiled, and copy it where it is wanted
    Image(ImageArgs),
}

pub(super) fn run(session: &Session, command: &KernelCommand) -> Result<()> {
    let KernelCommand::Image(args) = command;
    BuildRun::new(session, "kernel image", &args.tools)?
        .copy_to(args.out_dir.as_deref())
        .run(Goal::KernelImage)
}
