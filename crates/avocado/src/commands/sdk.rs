//! `avocado sdk`: the tools of the project, and what they compile.

use clap::{Args, Subcommand};

use super::Session;
use super::build_run::{BuildRun, Goal};
use super::deps::{self, DepsOf};
use super::tools::ToolArgs;
use crate::failure::Result;

#[derive(Debug, Subcommand)]
pub(crate) enum SdkCommand {
    /// Install the packages of the SDK, and those that it compiles against
    Install(SdkInstallArgs),
    /// List the packages of the SDK, with their locked versions
    Deps,
    /// Run the scripts of `sdk.compile`, where what they read has changed
    Compile(SdkCompileArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SdkInstallArgs {
    #[command(flatten)]
    pub(crate) tools: ToolArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SdkCompileArgs {
    /// Sections of `sdk.compile` [default: all of them]
    #[arg(value_name = "SECTIONS")]
    pub(crate) sections: Vec<String>,

    #[command(flatten)]
    pub(crate) tools: ToolArgs,
}

pub(super) fn run(session: &Session, command: &SdkCommand) -> Result<()> {
    match command {
        SdkCommand::Deps => deps::run(session, &DepsOf::Sdk),
        SdkCommand::Install(args) => {
            BuildRun::new(session, "sdk install", &args.tools)?.run(Goal::SdkInstall)
        }
        SdkCommand::Compile(args) => BuildRun::new(session, "sdk compile", &args.tools)?
            .run(Goal::SdkCompile(args.sections.clone())),
    }
}
