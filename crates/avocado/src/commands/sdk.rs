//! `avocado sdk`: the tools of the project, and what they compile.

use std::path::PathBuf;
use std::process::ExitCode;

use avocado_project::PackageScope;
use clap::{Args, Subcommand};

use super::build_run::{BuildRun, Goal};
use super::clean;
use super::deps::{self, DepsOf};
use super::dnf::{self, DnfQuestion};
use super::sdk_run::{self, SdkRunArgs};
use super::tools::ToolArgs;
use crate::failure::Result;
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum SdkCommand {
    /// Install the packages of the SDK, and those that it compiles against
    Install(SdkInstallArgs),
    /// List the packages of the SDK, with their locked versions
    Deps,
    /// Run the scripts of `sdk.compile`, where what they read has changed
    Compile(SdkCompileArgs),
    /// Package what a section of `sdk.compile` made
    Package(SdkPackageArgs),
    /// Run a command in the environment that the scripts of the project have
    Run(SdkRunArgs),
    /// Ask dnf about the packages of the SDK
    Dnf(DnfQuestion),
    /// Remove what sections of `sdk.compile` compiled, or the SDK and all of that
    Clean(SdkCleanArgs),
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

#[derive(Debug, Args)]
pub(crate) struct SdkPackageArgs {
    /// Section of `sdk.compile`, with a `package`
    #[arg(value_name = "SECTION")]
    pub(crate) section: String,

    #[command(flatten)]
    pub(crate) tools: ToolArgs,

    /// Output directory on host to copy the resulting packages to
    #[arg(long = "out", value_name = "OUT_DIR")]
    pub(crate) out_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SdkCleanArgs {
    /// Sections of `sdk.compile`, whose `clean` script runs first [default: all of them, and the SDK]
    #[arg(value_name = "SECTIONS")]
    sections: Vec<String>,
}

pub(super) fn run(session: &Session, command: &SdkCommand) -> Result<ExitCode> {
    let done = match command {
        SdkCommand::Run(args) => return sdk_run::run(session, args),
        SdkCommand::Dnf(question) => return dnf::run(session, &PackageScope::Sdk, question),
        SdkCommand::Clean(args) => clean::run_sections(session, &args.sections),
        SdkCommand::Deps => deps::run(session, &DepsOf::Sdk),
        SdkCommand::Install(args) => {
            BuildRun::new(session, "sdk install", &args.tools)?.run(Goal::SdkInstall)
        }
        SdkCommand::Compile(args) => BuildRun::new(session, "sdk compile", &args.tools)?
            .run(Goal::SdkCompile(args.sections.clone())),
        SdkCommand::Package(args) => BuildRun::new(session, "sdk package", &args.tools)?
            .copy_to(args.out_dir.as_deref())
            .run(Goal::SdkPackage(args.section.clone())),
    };
    done.map(|()| ExitCode::SUCCESS)
}
