//! `avocadoctl runtime`: the runtimes on this device.

mod activate;
mod add;
mod inspect;
mod list;
mod metadata;
mod pin;
mod prune;
mod remove;
mod rollback;
mod verify;

use avocado_text::escape;
use clap::Subcommand;
use serde_json::json;

use super::{Context, group_hint};
use crate::failure::Failure;
use crate::interface::Runtime;
use add::AddArgs;
use metadata::MetadataCommand;
use prune::PruneArgs;

/// What is shown for `runtime` alone.
const OVERVIEW: &str = "\
avocadoctl runtime - the runtimes on this device

  avocadoctl runtime list            all of them, the active one first
  avocadoctl runtime add --url URL   download, verify and stage one
  avocadoctl runtime activate ID     make one the active one

Try `avocadoctl runtime --help` for all commands.
";

#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// List the runtimes: the active one, then the others, the newest first
    List,
    /// Stage a runtime from a repository or from a manifest
    Add(AddArgs),
    /// Show a runtime in full
    Inspect {
        /// Its id, or the beginning of it; without one, the active runtime
        id: Option<String>,
    },
    /// Make a runtime the active one and merge its extensions
    #[command(after_long_help = "\
Example:
  The beginning of an id will do, as long as no other id begins so:
    avocadoctl runtime activate 4f2a")]
    Activate {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Make the runtime active again that was active before
    Rollback,
    /// Keep a runtime from being removed
    Pin {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Let a pinned runtime be removed again
    Unpin {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Remove a runtime that is not active
    Remove {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Remove what is not needed any more
    Prune(PruneArgs),
    /// Remove what is not needed any more, with as many runtimes kept as the configuration says
    Gc,
    /// Keep texts of a runtime, for other programs
    #[command(subcommand)]
    Metadata(MetadataCommand),
    /// Read every image again and say what is corrupt, missing or not needed
    #[command(after_help = "Ends with exit code 1 when something is corrupt or missing.")]
    Verify,
}

pub(super) fn run(command: Option<&RuntimeCommand>, context: &Context) -> Result<(), Failure> {
    let Some(command) = command else {
        return group_hint(context, OVERVIEW);
    };
    match command {
        RuntimeCommand::List => list::run(context),
        RuntimeCommand::Inspect { id } => inspect::run(id.as_deref(), context),
        RuntimeCommand::Add(args) => add::run(args, context),
        RuntimeCommand::Activate { id } => activate::run(id, context),
        RuntimeCommand::Rollback => rollback::run(context),
        RuntimeCommand::Pin { id } => pin::pin(id, context),
        RuntimeCommand::Unpin { id } => pin::unpin(id, context),
        RuntimeCommand::Remove { id } => remove::run(id, context),
        RuntimeCommand::Prune(args) => prune::run(args, context),
        RuntimeCommand::Gc => prune::collect_garbage(context),
        RuntimeCommand::Metadata(command) => metadata::run(command, context),
        RuntimeCommand::Verify => verify::run(context),
    }
}

/// Tells what was done to a runtime.
fn report(context: &Context, runtime: &Runtime, done: &str) -> Result<(), Failure> {
    let document = json!({"status": "ok", "runtime": runtime});
    context.output.result(&document, || {
        let (name, version) = (&runtime.runtime.name, &runtime.runtime.version);
        let line = format!("Runtime {name} {version} is {done}: {}", runtime.id);
        format!("{}\n", escape(&line))
    })
}

/// Tells that a runtime was activated. One that could be and is not active waits for the reboot into
/// its OS.
fn report_activation(context: &Context, runtime: &Runtime, done: &str) -> Result<(), Failure> {
    let waits = "not active yet: its OS is written, and runs after a reboot";
    report(context, runtime, if runtime.active { done } else { waits })
}

/// A runtime in a few words, for people.
fn short_text(runtime: &Runtime) -> String {
    let (name, version) = (&runtime.runtime.name, &runtime.runtime.version);
    escape(&format!("{name} {version} ({})", runtime.short_id()))
}
