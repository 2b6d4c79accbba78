//! `avocado ext`: the extensions of the project.

mod build;
mod checkout;
mod fetch;
mod image;
mod list;
mod package;

use avocado_manifest::Name;
use clap::{Args, Subcommand};

use super::Session;
use super::build_run::{BuildRun, Goal};
use super::deps::{self, DepsOf};
use super::tools::ToolArgs;
use crate::failure::Result;
use checkout::ExtCheckoutArgs;
use image::ExtImageArgs;
use package::ExtPackageArgs;

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
    /// List the packages of the extensions, with their locked versions
    Deps(ExtSelection),
    /// Fetch an extension that comes from elsewhere: its `source`
    Fetch(ExtArgs),
    /// Copy something of an extension's built tree into the sources of the project
    #[command(mut_arg("force", |force| force.help("Replace files of the project that are others")))]
    Checkout(ExtCheckoutArgs),
    /// Package the sources of an extension, for a feed that others fetch it from
    Package(ExtPackageArgs),
}

/// Which extension: a positional name, or the older option.
#[derive(Debug, Args)]
pub(crate) struct ExtSelection {
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
}

/// Which extension, and how tools run.
#[derive(Debug, Args)]
pub(crate) struct ExtArgs {
    #[command(flatten)]
    selection: ExtSelection,

    #[command(flatten)]
    pub(crate) tools: ToolArgs,
}

impl ExtSelection {
    /// The extension that was named, by either way.
    pub(crate) fn name(&self) -> Option<&Name> {
        self.name.as_ref().or(self.extension.as_ref())
    }
}

impl ExtArgs {
    /// The extension that was named, by either way.
    pub(crate) fn name(&self) -> Option<&Name> {
        self.selection.name()
    }
}

pub(super) fn run(session: &Session, command: &ExtCommand) -> Result<()> {
    match command {
        ExtCommand::Image(args) => image::run(session, args),
        ExtCommand::Install(args) => BuildRun::new(session, "ext install", &args.tools)?
            .run(Goal::ExtInstall(args.name().cloned())),
        ExtCommand::Build(args) => build::run(session, args),
        ExtCommand::Deps(args) => deps::run(session, &DepsOf::Extension(args.name())),
        ExtCommand::List => list::run(session),
        ExtCommand::Fetch(args) => fetch::run(session, args),
        ExtCommand::Checkout(args) => checkout::run(session, args),
        #[cfg(target_os = "linux")]
        ExtCommand::Package(args) => package::run(session, args),
        #[cfg(not(target_os = "linux"))]
        ExtCommand::Package(_) => Err(super::only_on_linux("ext package")),
    }
}
