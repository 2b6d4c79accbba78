//! `avocado ext`: the extensions of the project.

mod build;
mod checkout;
mod fetch;
mod image;
mod list;
mod package;

use std::process::ExitCode;

use avocado_manifest::Name;
use avocado_project::PackageScope;
use clap::{Args, Subcommand};

use super::build_run::{BuildRun, Goal};
use super::clean;
use super::deps::{self, DepsOf};
use super::dnf::{self, DnfQuestion};
use super::tools::ToolArgs;
use crate::failure::{Failure, Result};
use crate::session::Session;
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
    /// Ask dnf about the packages of an extension
    Dnf {
        /// Extension name
        #[arg(short, long, value_name = "EXTENSION")]
        extension: Name,
        #[command(flatten)]
        question: DnfQuestion,
    },
    /// Remove the trees and the image of an extension
    Clean(ExtSelection),
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

pub(super) fn run(session: &Session, command: &ExtCommand) -> Result<ExitCode> {
    let done = match command {
        ExtCommand::Dnf {
            extension,
            question,
        } => {
            let scope = PackageScope::Extension(extension.clone());
            return dnf::run(session, &scope, question);
        }
        ExtCommand::Clean(selection) => match selection.name() {
            Some(name) => clean::run_part(session, PackageScope::Extension(name.clone())),
            None => Err(Failure::usage("name the extension that is to be cleaned")),
        },
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
    };
    done.map(|()| ExitCode::SUCCESS)
}
