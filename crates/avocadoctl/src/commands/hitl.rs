//! `avocadoctl hitl`: extensions from the machine where they are written.

use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::thread;

use avocado_device::{Cancel, Device, HitlServer, HitlWatchEnd};
use clap::{Args, Subcommand};
use serde_json::json;

use super::serve::termination;
use super::{Context, group_hint};
use crate::access::AccessMode;
use crate::failure::Failure;
use crate::interface::{HitlMountParameters, HitlUnmountParameters};

/// What is shown for `hitl` alone.
const OVERVIEW: &str = "\
avocadoctl hitl - extensions from the machine where they are written

  avocadoctl hitl mount -s IP -e EXT    mount one in the place of its image
  avocadoctl hitl unmount -e EXT        go back to the image

Try `avocadoctl hitl --help` for all commands.
";

#[derive(Debug, Subcommand)]
pub(crate) enum HitlCommand {
    /// Mount NFS extensions from a remote server
    #[command(
        after_help = "`avocado hitl server` is the server. What is mounted is signed by nobody, so this is for \
                      root alone. Where the server is gone, the images are merged again; a reboot ends it as well."
    )]
    Mount(HitlMountArgs),
    /// Unmount NFS extensions
    Unmount(HitlUnmountArgs),
    /// Go back to the images when the server is gone: what avocado-hitl.service runs
    #[command(hide = true)]
    Watch,
}

#[derive(Debug, Args)]
pub(crate) struct HitlMountArgs {
    /// The address of the server
    #[arg(short, long, value_name = "IP")]
    server_ip: IpAddr,
    /// The port of the server
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = HitlServer::PORT)]
    server_port: u16,
    /// An extension of the server (repeatable)
    #[arg(short, long = "extension", value_name = "NAME", required = true)]
    extensions: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HitlUnmountArgs {
    /// An extension that is mounted (repeatable)
    #[arg(short, long = "extension", value_name = "NAME", required = true)]
    extensions: Vec<String>,
}

pub(super) fn run(command: Option<&HitlCommand>, context: &Context) -> Result<(), Failure> {
    match command {
        None => group_hint(context, OVERVIEW),
        Some(HitlCommand::Mount(args)) => mount(args, context),
        Some(HitlCommand::Unmount(args)) => unmount(args, context),
        Some(HitlCommand::Watch) => watch(context),
    }
}

fn mount(args: &HitlMountArgs, context: &Context) -> Result<(), Failure> {
    let parameters = HitlMountParameters {
        server_ip: args.server_ip.to_string(),
        server_port: Some(args.server_port.to_string()),
        extensions: args.extensions.clone(),
    };
    let device = context.device(AccessMode::Write)?;
    let done = device.hitl_mount(parameters, &context.progress);
    context.progress.clear();
    done?;
    tell(context, &args.extensions, "mounted and merged")
}

fn unmount(args: &HitlUnmountArgs, context: &Context) -> Result<(), Failure> {
    let parameters = HitlUnmountParameters {
        extensions: args.extensions.clone(),
    };
    let device = context.device(AccessMode::Write)?;
    let done = device.hitl_unmount(&parameters, &context.progress);
    context.progress.clear();
    done?;
    tell(context, &args.extensions, "unmounted")
}

fn tell(context: &Context, extensions: &[String], what: &str) -> Result<(), Failure> {
    let document = json!({"status": "ok"});
    let text = || format!("{} {what}.\n", extensions.join(", "));
    context.output.result(&document, text)
}

/// Not through the service: it may be what waits for the server.
fn watch(context: &Context) -> Result<(), Failure> {
    let device = Device::new(context.settings.config.clone());
    let cancel = Cancel::new();
    cancel_when_asked(&cancel)
        .map_err(|e| Failure::Serve(format!("signals cannot be taken: {e}")))?;
    let end = device.hitl_watch(&cancel, &context.progress);
    let end = end.map_err(|error| Failure::of_hitl(&error))?;
    tracing::info!(
        "{}",
        match end {
            HitlWatchEnd::NothingMounted => "nothing is mounted any more",
            HitlWatchEnd::Stopped => "stopped",
        }
    );
    Ok(())
}

/// Lets a merge that is begun be finished when the process is asked to end.
fn cancel_when_asked(cancel: &Cancel) -> io::Result<()> {
    let mut asked = UnixStream::from(termination()?);
    let cancel = cancel.clone();
    thread::spawn(move || {
        let _ = asked.read(&mut [0]);
        cancel.cancel();
    });
    Ok(())
}
