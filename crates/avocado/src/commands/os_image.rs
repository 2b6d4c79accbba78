//! `avocado rootfs` and `avocado initramfs`: the images that a device boots.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Session;
use super::build_run::{BuildRun, Goal};
use super::deps::{self, DepsOf};
use super::tools::ToolArgs;
use crate::failure::Result;

#[derive(Debug, Subcommand)]
pub(crate) enum OsImageCommand {
    /// Install its packages
    Install(OsInstallArgs),
    /// List its packages, with their locked versions
    Deps,
    /// Create the image
    Image(ImageArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// Output directory on host to copy the resulting image to
    #[arg(long = "out", value_name = "OUT_DIR")]
    pub(crate) out_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) tools: ToolArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OsInstallArgs {
    #[command(flatten)]
    tools: ToolArgs,
}

pub(super) fn rootfs(session: &Session, command: &OsImageCommand) -> Result<()> {
    match command {
        OsImageCommand::Deps => deps::run(session, &DepsOf::Rootfs),
        OsImageCommand::Install(args) => {
            BuildRun::new(session, "rootfs install", &args.tools)?.run(Goal::RootfsInstall)
        }
        OsImageCommand::Image(args) => BuildRun::new(session, "rootfs image", &args.tools)?
            .copy_to(args.out_dir.as_deref())
            .run(Goal::RootfsImage),
    }
}

pub(super) fn initramfs(session: &Session, command: &OsImageCommand) -> Result<()> {
    match command {
        OsImageCommand::Deps => deps::run(session, &DepsOf::Initramfs),
        OsImageCommand::Install(args) => {
            BuildRun::new(session, "initramfs install", &args.tools)?.run(Goal::InitramfsInstall)
        }
        OsImageCommand::Image(args) => BuildRun::new(session, "initramfs image", &args.tools)?
            .copy_to(args.out_dir.as_deref())
            .run(Goal::InitramfsImage),
    }
}
