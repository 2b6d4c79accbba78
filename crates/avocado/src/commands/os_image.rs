//! `avocado rootfs` and `avocado initramfs`: the images that a device boots.

use std::path::PathBuf;
use std::process::ExitCode;

use avocado_project::PackageScope;
use clap::{Args, Subcommand};

use super::build_run::{BuildRun, Goal};
use super::deps::{self, DepsOf};
use super::dnf::{self, DnfQuestion};
use super::tools::ToolArgs;
use super::{clean, installed};
use crate::failure::Result;
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum OsImageCommand {
    /// Install its packages
    Install(OsInstallArgs),
    /// List its packages, with their locked versions
    Deps,
    /// List the packages that are installed
    List,
    /// Create the image
    Image(ImageArgs),
    /// Ask dnf about its packages
    Dnf(DnfQuestion),
    /// Remove its trees and images
    Clean,
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

pub(super) fn rootfs(session: &Session, command: &OsImageCommand) -> Result<ExitCode> {
    let scope = PackageScope::Rootfs;
    let done = match command {
        OsImageCommand::Dnf(question) => return dnf::run(session, &scope, question),
        OsImageCommand::Clean => clean::run_part(session, scope),
        OsImageCommand::List => installed::run(session, &scope),
        OsImageCommand::Deps => deps::run(session, &DepsOf::Rootfs),
        OsImageCommand::Install(args) => {
            BuildRun::new(session, "rootfs install", &args.tools)?.run(Goal::RootfsInstall)
        }
        OsImageCommand::Image(args) => BuildRun::new(session, "rootfs image", &args.tools)?
            .copy_to(args.out_dir.as_deref())
            .run(Goal::RootfsImage),
    };
    done.map(|()| ExitCode::SUCCESS)
}

pub(super) fn initramfs(session: &Session, command: &OsImageCommand) -> Result<ExitCode> {
    let scope = PackageScope::Initramfs;
    let done = match command {
        OsImageCommand::Dnf(question) => return dnf::run(session, &scope, question),
        OsImageCommand::Clean => clean::run_part(session, scope),
        OsImageCommand::List => installed::run(session, &scope),
        OsImageCommand::Deps => deps::run(session, &DepsOf::Initramfs),
        OsImageCommand::Install(args) => {
            BuildRun::new(session, "initramfs install", &args.tools)?.run(Goal::InitramfsInstall)
        }
        OsImageCommand::Image(args) => BuildRun::new(session, "initramfs image", &args.tools)?
            .copy_to(args.out_dir.as_deref())
            .run(Goal::InitramfsImage),
    };
    done.map(|()| ExitCode::SUCCESS)
}
