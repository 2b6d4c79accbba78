//! `avocado runtime`: the runtimes of the project.

mod build;
mod list;

use std::process::ExitCode;

use avocado_manifest::Name;
use avocado_project::PackageScope;
use clap::{Args, Subcommand};

use super::build_run::{BuildRun, Goal};
use super::clean;
use super::deps::{self, DepsOf};
use super::dnf::{self, DnfQuestion};
use super::provision::{self, ProvisionArgs};
use super::tools::ToolArgs;
use crate::failure::{Failure, Result};
use crate::session::Session;

/// Which runtime: a positional name, or the older option.
#[derive(Debug, Args)]
pub(crate) struct RuntimeSelection {
    /// Runtime name
    #[arg(
        value_name = "RUNTIME",
        id = "runtime_name",
        conflicts_with = "runtime_option"
    )]
    name: Option<Name>,

    #[arg(
        short = 'r',
        long = "runtime",
        value_name = "RUNTIME",
        id = "runtime_option",
        hide = true
    )]
    runtime: Option<Name>,
}

impl RuntimeSelection {
    /// The runtime that was named, by either way.
    pub(crate) fn name(&self) -> Option<&Name> {
        self.name.as_ref().or(self.runtime.as_ref())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// List the runtimes of the project for the target
    List,
    /// List the packages of the runtimes' own trees, with their locked versions
    Deps(RuntimeSelection),
    /// Install the packages of a runtime: of its OS, its extensions and its own
    Install {
        #[command(flatten)]
        runtime: RuntimeSelection,
        #[command(flatten)]
        tools: ToolArgs,
    },
    /// Build a runtime and everything it consists of
    Build {
        #[command(flatten)]
        runtime: RuntimeSelection,
        /// Leave out the var partition and the image of a VM, which no deployment needs
        #[arg(long)]
        no_var: bool,
        #[command(flatten)]
        tools: ToolArgs,
    },
    /// Make what a device has on its disks when it starts for the first time
    Provision(ProvisionArgs),
    /// Ask dnf about the packages of a runtime's own tree
    Dnf {
        /// Runtime name
        #[arg(short, long, value_name = "RUNTIME")]
        runtime: Name,
        #[command(flatten)]
        question: DnfQuestion,
    },
    /// Remove what was built of a runtime; its signed repository stays, for devices remember it
    Clean(RuntimeSelection),
}

pub(super) fn run(session: &Session, command: &RuntimeCommand) -> Result<ExitCode> {
    let done = match command {
        RuntimeCommand::Dnf { runtime, question } => {
            let scope = PackageScope::Runtime(runtime.clone());
            return dnf::run(session, &scope, question);
        }
        RuntimeCommand::Clean(selection) => match selection.name() {
            Some(name) => clean::run_part(session, PackageScope::Runtime(name.clone())),
            None => Err(Failure::usage("name the runtime that is to be cleaned")),
        },
        RuntimeCommand::Provision(args) => provision::run(session, args),
        RuntimeCommand::List => list::run(session),
        RuntimeCommand::Deps(runtime) => deps::run(session, &DepsOf::Runtime(runtime.name())),
        RuntimeCommand::Install { runtime, tools } => {
            let named = match runtime.name() {
                Some(name) => Some(name.clone()),
                None => session.environment.runtime()?,
            };
            BuildRun::new(session, "runtime install", tools)?.run(Goal::RuntimeInstall(named))
        }
        RuntimeCommand::Build {
            runtime,
            no_var,
            tools,
        } => build::run(session, runtime, *no_var, tools),
    };
    done.map(|()| ExitCode::SUCCESS)
}
