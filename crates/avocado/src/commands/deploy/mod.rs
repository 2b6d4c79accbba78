//! `avocado deploy`: brings a built runtime to a device.

#[cfg(target_os = "linux")]
mod remote;
#[cfg(target_os = "linux")]
mod renew_metadata;
#[cfg(target_os = "linux")]
mod route;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
pub(super) mod ssh;
#[cfg(target_os = "linux")]
mod transfer;

use clap::Args;

use super::runtime::RuntimeSelection;
use super::tools::BuiltWithArgs;
use avocado_ssh::SshAddress;
#[cfg(target_os = "linux")]
pub(super) use run::run;

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    pub(crate) runtime: RuntimeSelection,

    /// The device: a host name or an address; root and port 22 unless told
    #[arg(short, long, value_name = "[USER@]HOST[:PORT]")]
    pub(crate) device: SshAddress,

    /// Deploy nothing that is older than its sources
    #[arg(long)]
    pub(crate) strict: bool,

    /// Additional argument to pass to ssh (repeatable)
    #[arg(long = "ssh-arg", value_name = "SSH_ARG", allow_hyphen_values = true)]
    pub(crate) ssh_args: Vec<String>,

    #[command(flatten)]
    pub(crate) built_with: BuiltWithArgs,
}
