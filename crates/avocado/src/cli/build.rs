use std::path::PathBuf;

use avocado_manifest::Name;
use clap::{Args, Subcommand, ValueEnum};

/// Options of commands that run tools.
#[derive(Debug, Args)]
pub(crate) struct ToolArgs {
    /// Where tools run: on this machine in a namespace of their own, or in the container of
    /// `sdk.image`
    #[arg(long, value_name = "BACKEND")]
    pub(crate) sdk: Option<Backend>,

    /// Additional arguments to pass to the container runtime
    #[arg(
        long = "container-arg",
        value_name = "CONTAINER_ARGS",
        allow_hyphen_values = true
    )]
    pub(crate) container_args: Vec<String>,

    /// Additional arguments to pass to DNF commands
    #[arg(long = "dnf-arg", value_name = "DNF_ARGS", allow_hyphen_values = true)]
    pub(crate) dnf_args: Vec<String>,

    /// Answer yes to every question (nothing asks in this version)
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Where tools run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    Host,
    Container,
}

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    pub(crate) tools: ToolArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Build this runtime only
    #[arg(short, long, value_name = "RUNTIME", conflicts_with = "extension")]
    pub(crate) runtime: Option<Name>,

    /// Build the image of this extension only
    #[arg(short, long, value_name = "EXTENSION")]
    pub(crate) extension: Option<Name>,

    #[command(flatten)]
    pub(crate) tools: ToolArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExtCommand {
    /// Create a squashfs or erofs image from a system extension
    Image(ExtImageArgs),
    /// Fill the tree of an extension: packages, overlay, release files
    Build(ExtArgs),
    /// List the extensions of the project
    List,
}

/// Which extension: a positional name, or the older option.
#[derive(Debug, Args)]
pub(crate) struct ExtArgs {
    /// Extension name
    #[arg(value_name = "NAME", conflicts_with = "extension")]
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

#[derive(Debug, Args)]
pub(crate) struct ExtImageArgs {
    #[command(flatten)]
    pub(crate) ext: ExtArgs,

    /// Output directory on host to copy the resulting .raw image to
    #[arg(long = "out", value_name = "OUT_DIR")]
    pub(crate) out_dir: Option<PathBuf>,
}

/// Which runtime: a positional name, or the older option.
#[derive(Debug, Args)]
pub(crate) struct RuntimeSelection {
    /// Runtime name
    #[arg(value_name = "RUNTIME", conflicts_with = "runtime_option")]
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
    /// Build a runtime and everything it consists of
    Build {
        #[command(flatten)]
        runtime: RuntimeSelection,
        #[command(flatten)]
        tools: ToolArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum OsImageCommand {
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
