//! The command line: what can be typed. No behaviour.

mod build;
mod deploy;
mod project;
mod signing;
mod unsupported;
mod vm;

use std::path::PathBuf;

use avocado_manifest::Name;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use build::{
    Backend, BuildArgs, ExtArgs, ExtCommand, ExtImageArgs, ImageArgs, InstallArgs, OsImageCommand,
    RuntimeCommand, RuntimeSelection, ToolArgs,
};
pub(crate) use deploy::DeployArgs;
pub(crate) use project::{CleanArgs, InitArgs};
pub(crate) use signing::SigningKeysCommand;
pub(crate) use unsupported::{command, parse};
pub(crate) use vm::{
    VmCommand, VmConfigCommand, VmLogsArgs, VmRebuildArgs, VmResetArgs, VmShellArgs, VmStartArgs,
    VmStopArgs, VmSuperviseArgs, VmUpdateArgs,
};

/// Build Avocado Linux runtimes from avocado.yaml and bring them to devices
#[derive(Debug, Parser)]
#[command(
    name = "avocado",
    version,
    args_override_self = true,
    subcommand_required = true,
    arg_required_else_help = true,
    infer_subcommands = false
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes, before or after its name.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Path to avocado.yaml configuration file [default: avocado.yaml]
    #[arg(short = 'C', long, global = true, value_name = "CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Enable verbose output
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,

    /// Target architecture
    #[arg(short, long, global = true, value_name = "TARGET")]
    pub(crate) target: Option<Name>,

    /// Neither read nor write stamps: run every step
    #[arg(long, global = true)]
    pub(crate) no_stamps: bool,

    /// How to report: text for people, or JSON (NDJSON for long work)
    #[arg(long, global = true, value_name = "FORMAT", default_value = "human")]
    pub(crate) output: OutputFormat,

    /// Plain lines instead of live progress
    #[arg(long, global = true)]
    pub(crate) no_tui: bool,

    /// Run command on remote host using local volume via NFS (format: user@host); not supported yet
    #[arg(long, global = true, value_name = "USER@HOST")]
    pub(crate) runs_on: Option<String>,

    /// NFS port for remote execution (auto-selects from 12050-12099 if not specified); not
    /// supported yet
    #[arg(long, global = true, value_name = "NFS_PORT")]
    pub(crate) nfs_port: Option<u16>,

    /// SDK container architecture for cross-arch emulation via Docker buildx/QEMU (aarch64 or
    /// x86-64); not supported yet
    #[arg(long, global = true, value_name = "ARCH")]
    pub(crate) sdk_arch: Option<String>,
}

// The variants have no doc comments: they would make every --help three times as long.
/// The form of everything that a command says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a project: a small avocado.yaml that builds as it is
    Init(InitArgs),
    /// Install the packages of the SDK, the images, the extensions and the runtimes
    Install(InstallArgs),
    /// Build everything that changed, down to the signed repository of each runtime
    Build(BuildArgs),
    /// Move to the newest feed snapshot and forget the pinned package versions
    Update,
    /// Work with extensions
    #[command(subcommand)]
    Ext(ExtCommand),
    /// Work with runtimes
    #[command(subcommand)]
    Runtime(RuntimeCommand),
    /// Work with the root file system
    #[command(subcommand)]
    Rootfs(OsImageCommand),
    /// Work with the initial RAM file system
    #[command(subcommand)]
    Initramfs(OsImageCommand),
    /// Manage the keys that sign repositories
    #[command(subcommand)]
    SigningKeys(SigningKeysCommand),
    /// Bring a built runtime to a device on the network and activate it
    Deploy(DeployArgs),
    /// Run the development VM, which costs nothing while nobody uses it
    #[command(subcommand)]
    Vm(VmCommand),
    /// Remove what builds left behind
    Clean(CleanArgs),
    /// Print a completion script for a shell
    Completion {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
    /// Run one step of a build: JSON on stdin, events on stdout
    #[command(hide = true)]
    Step,
}
