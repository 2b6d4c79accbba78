//! Options of the commands that run tools.

use clap::{Args, ValueEnum};

use crate::failure::{Failure, Result};

/// Options of commands that run tools.
#[derive(Debug, Args)]
pub(crate) struct ToolArgs {
    /// Where tools run: on this machine in a namespace of their own, or in the container of
    /// `sdk.image`
    #[arg(long, value_name = "BACKEND")]
    pub(crate) backend: Option<BackendChoice>,

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

    /// Fail where avocado.lock would have to change: for CI
    #[arg(long)]
    pub(crate) locked: bool,

    /// Fail where avocado.lock would have to change or something is not in the cache of earlier runs:
    /// nothing is requested
    #[arg(long)]
    pub(crate) frozen: bool,

    /// Leave out the scriptlets of packages, and say whose they are
    #[arg(long)]
    pub(crate) no_scripts: bool,

    /// Leave the project's `cache` out: take no result of another machine, and give none
    #[arg(long)]
    pub(crate) no_cache: bool,

    /// Say of each step that runs which of its inputs differs, with both values
    #[arg(long)]
    pub(crate) explain: bool,

    /// Answer yes to every question, but for that of `provision --device`
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// What a build was told that changes what it makes, for commands that ask whether that is older than
/// its sources.
#[derive(Debug, Args)]
pub(crate) struct BuiltWithArgs {
    /// An argument for DNF with which it was built, to know whether it is older than its sources
    /// (repeatable)
    #[arg(long = "dnf-arg", value_name = "DNF_ARGS", allow_hyphen_values = true)]
    pub(crate) dnf_args: Vec<String>,

    /// That it was built without the scriptlets of packages, for the same
    #[arg(long)]
    pub(crate) no_scripts: bool,

    /// Where the tools ran that built it, for the same
    #[arg(long, value_name = "BACKEND")]
    pub(crate) backend: Option<BackendChoice>,

    // Peers pass this to every command.
    #[arg(long = "container-arg", allow_hyphen_values = true, hide = true)]
    pub(crate) container_args: Vec<String>,
}

/// Where tools run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendChoice {
    Host,
    /// Of the engine that is there.
    Container,
    Podman,
    Docker,
}

/// Variables as the command line has them, `KEY=VALUE` each.
pub(super) fn key_values(stated: &[String]) -> Result<Vec<(String, String)>> {
    let pairs = stated.iter().map(|variable| {
        let split = variable
            .split_once('=')
            .filter(|(name, _)| !name.is_empty());
        let pair = split.map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.ok_or_else(|| Failure::usage(format!("`{variable}` is not KEY=VALUE")))
    });
    pairs.collect()
}
