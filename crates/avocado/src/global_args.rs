//! Options of all commands.

use std::path::PathBuf;

use avocado_manifest::Name;
use avocado_ssh::SshAddress;
use clap::{Args, ValueEnum};

/// Options that every command takes, before or after its name.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Path to avocado.yaml configuration file [default: avocado.yaml]
    #[arg(short = 'C', long, global = true, value_name = "CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Enable verbose output; twice, also how things are done (see AVOCADO_LOG)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

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

    /// Run command on remote host using local volume via NFS (format: user@host)
    #[arg(long, global = true, value_name = "USER@HOST")]
    pub(crate) runs_on: Option<SshAddress>,

    /// NFS port for remote execution (auto-selects from 12050-12099 if not specified)
    #[arg(long, global = true, value_name = "NFS_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) nfs_port: Option<u16>,

    /// Architecture of the SDK, emulated where it is not that of this machine
    #[arg(long, global = true, value_name = "ARCH")]
    pub(crate) sdk_arch: Option<SdkArchitecture>,
}

impl GlobalArgs {
    /// What the SDK's tools run on, as kernels, rpm and `avocado.lock` call it.
    pub(crate) fn sdk_architecture(&self) -> &'static str {
        match self.sdk_arch {
            None => std::env::consts::ARCH,
            Some(SdkArchitecture::Aarch64) => "aarch64",
            Some(SdkArchitecture::X86_64) => "x86_64",
        }
    }
}

// The variants have no doc comments: they would make every --help three times as long.
/// What an SDK's tools run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SdkArchitecture {
    #[value(alias = "arm64")]
    Aarch64,
    #[value(name = "x86-64", aliases = ["x86_64", "amd64"])]
    X86_64,
}

// The variants have no doc comments: they would make every --help three times as long.
/// The form of everything that a command says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Human,
    Json,
}
