//! `avocado ext`: the extensions of the project.

mod build;
mod fetch;
mod image;
mod list;

use avocado_manifest::Name;
use clap::{Args, Subcommand};

use super::Session;
use super::build_run::{BuildRun, Goal};
use super::tools::ToolArgs;
use crate::failure::Result;
use image::ExtImageArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum ExtCommand {
    /// Create a squashfs or erofs image from a system extension
    Image(ExtImageArgs),
    /// Fill the tree of an extension: packages, overlay, release files
    Build(ExtArgs),
    /// Install the packages of an extension
    Install(ExtArgs),
    /// List the extensions of the project
    List,
    /// Fetch an extension that comes from elsewhere: its `source`
    Fetch(ExtArgs),
}

/// Which extension: a positional name, or the older option.
#[derive(Debug, Args)]
pub(crate) struct ExtArgs {
    /// Extension name
    #[arg(
        value_name = "NAME",
        id = "extension_name",
        conflicts_with = "extension"
    )]
    name: Option<Name>,

    /// Extension name (alias for positional NAME)
    #[arg(short, long, value_name = "EXTENSION")]
    extension: Option<Name>,

    #[command(flatten)]
    pub(crate) tools: ToolArgs,
}

impl ExtArgs {
    /// The extension that was named, by either way.
    pub(crate) fn name(&self) -> Option<&Name> {
        self.name.as_ref().or(self.extension.as_ref())
    }
}

pub(super) fn run(session: &Session, command: &ExtCommand) -> Result<()> {
    match command {
        ExtCommand::Image(args) => image::run(session, args),
        ExtCommand::Install(args) => BuildRun::new(session, "ext install", &args.tools)?
            .run(Goal::ExtInstall(args.name().cloned())),
        ExtCommand::Build(args) => build::run(session, args),
        ExtCommand::List => list::run(session),
        ExtCommand::Fetch(args) => fetch::run(session, args),
    }
}
