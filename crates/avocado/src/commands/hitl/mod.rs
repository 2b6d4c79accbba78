//! `avocado hitl`: a device runs extensions as they are on this machine.

// Elsewhere the arguments are read, and nothing is done with them.
#[cfg(target_os = "linux")]
mod follow;
#[cfg(target_os = "linux")]
mod server;

use std::net::IpAddr;

use avocado_manifest::Name;
use clap::{Args, Subcommand};

use super::tools::ToolArgs;
#[cfg(target_os = "linux")]
use crate::failure::Result;
#[cfg(target_os = "linux")]
use crate::session::Session;

#[derive(Debug, Subcommand)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) enum HitlCommand {
    /// Export extensions to a device, and build them again when their sources change
    #[command(
        after_help = "On the device, as root: avocadoctl hitl mount -s ADDRESS_OF_THIS_MACHINE -e EXTENSION"
    )]
    Server(HitlServerArgs),
}

#[derive(Debug, Args)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) struct HitlServerArgs {
    /// An extension to export (repeatable)
    #[arg(short, long = "extension", value_name = "EXTENSION", required = true)]
    extensions: Vec<Name>,

    /// The port to listen at
    #[arg(short, long, value_name = "PORT", default_value_t = 12049)]
    port: u16,

    /// The address to listen at, of this machine [default: all]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,

    #[command(flatten)]
    tools: ToolArgs,
}

#[cfg(target_os = "linux")]
pub(super) fn run(session: &Session, command: &HitlCommand) -> Result<()> {
    match command {
        HitlCommand::Server(args) => server::run(session, args),
    }
}
