//! `avocadoctl ext`: the extensions of the active runtime.

mod list;
pub(super) mod status;

use clap::{Args, Subcommand};

use super::enable::count_text;
use super::unmerge::UnmergeArgs;
use super::{Context, group_hint, merge, refresh, unmerge};
use crate::access::AccessMode;
use crate::failure::Failure;
use crate::interface::SetEnabledParameters;

/// What is shown for `ext` alone.
const OVERVIEW: &str = "\
avocadoctl ext - the extensions of the active runtime

  avocadoctl ext status              what is merged
  avocadoctl ext list                what is on this device
  avocadoctl ext refresh             bring what is merged in line

Try `avocadoctl ext --help` for all commands.
";

#[derive(Debug, Subcommand)]
pub(crate) enum ExtCommand {
    /// List the extensions that are on this device
    List,
    /// Show which extensions are merged, and from what
    Status,
    /// Merge the extensions of the active runtime
    Merge,
    /// Unmerge all extensions
    Unmerge(UnmergeArgs),
    /// Bring what is merged in line with the active runtime
    Refresh,
    /// Merge extensions of the active runtime from the next merge on, whatever its manifest says
    Enable(NamedExtensions),
    /// Leave extensions of the active runtime out from the next merge on
    Disable(NamedExtensions),
}

#[derive(Debug, Args)]
pub(crate) struct NamedExtensions {
    /// Names of extensions, with or without their version
    #[arg(required = true, value_name = "EXT")]
    pub(crate) extensions: Vec<String>,
}

pub(super) fn run(command: Option<&ExtCommand>, context: &Context) -> Result<(), Failure> {
    match command {
        None => group_hint(context, OVERVIEW),
        Some(ExtCommand::List) => list::run(context),
        Some(ExtCommand::Status) => status::run(context),
        Some(ExtCommand::Merge) => merge::run(context),
        Some(ExtCommand::Unmerge(args)) => unmerge::run(args, context),
        Some(ExtCommand::Refresh) => refresh::run(context),
        Some(ExtCommand::Enable(named)) => set_enabled(named, true, context),
        Some(ExtCommand::Disable(named)) => set_enabled(named, false, context),
    }
}

fn set_enabled(named: &NamedExtensions, enabled: bool, context: &Context) -> Result<(), Failure> {
    let request = SetEnabledParameters {
        extensions: named.extensions.clone(),
        enabled,
    };
    let result = context
        .device(AccessMode::Write)?
        .set_enabled(&request, &context.progress)?;
    context.output.result(&result, || {
        let done = if enabled { "enabled" } else { "disabled" };
        let counted = count_text(result.updated, done);
        format!("{counted}`avocadoctl refresh` brings what is merged in line.\n")
    })
}

/// The version of an extension, for people.
fn version_text(version: Option<&str>) -> String {
    version.unwrap_or("-").to_owned()
}

/// What an extension adds to, for people.
fn kind_text(sysext: bool, confext: bool) -> &'static str {
    match (sysext, confext) {
        (true, true) => "sys+conf",
        (true, false) => "sys",
        (false, true) => "conf",
        (false, false) => "-",
    }
}
