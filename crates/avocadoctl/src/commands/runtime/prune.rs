//! `avocadoctl runtime prune`.

use avocado_text::{bytes, escape};
use clap::Args;

use crate::access::AccessMode;
use crate::commands::Context;
use crate::failure::Failure;
use crate::interface::{PruneParameters, PruneReply};

#[derive(Debug, Args)]
#[command(after_long_help = "\
The active runtime is kept in any case, and so are the one before it, pinned ones, and one whose \
OS update is under way.

Examples:
  What would go, if three runtimes were kept:
    avocadoctl runtime prune --keep 3 --dry-run

  Only images that no runtime needs:
    avocadoctl runtime prune")]
pub(crate) struct PruneArgs {
    /// Keep so many runtimes, and remove the oldest ones [default: keep all]
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<u32>,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

pub(super) fn run(args: &PruneArgs, context: &Context) -> Result<(), Failure> {
    let request = PruneParameters {
        keep: args.keep.map(i64::from),
        dry_run: args.dry_run.then_some(true),
    };
    prune(&request, context)
}

/// `avocadoctl runtime gc`.
pub(super) fn collect_garbage(context: &Context) -> Result<(), Failure> {
    let request = PruneParameters {
        keep: i64::try_from(context.settings.config.runtime_retention).ok(),
        dry_run: None,
    };
    prune(&request, context)
}

fn prune(request: &PruneParameters, context: &Context) -> Result<(), Failure> {
    let progress = &context.progress;
    let result = context.device(AccessMode::Write)?.prune(request, progress);
    progress.clear();
    let pruned = result?;
    let dry_run = request.dry_run == Some(true);
    context.output.result(&pruned, || text(&pruned, dry_run))
}

/// What was removed, or would be.
fn text(pruned: &PruneReply, dry_run: bool) -> String {
    let mut text = String::new();
    let would = if dry_run { "Would remove" } else { "Removed" };
    for found in &pruned.runtimes {
        let (name, version) = (&found.runtime.name, &found.runtime.version);
        let line = format!("{would} runtime {name} {version} ({})", found.id);
        text.push_str(&format!("{}\n", escape(&line)));
    }
    for image in &pruned.images {
        let line = format!("{would} image {}, {}", image.file, bytes(image.bytes));
        text.push_str(&format!("{}\n", escape(&line)));
    }
    if let Some(why) = &pruned.spared {
        text.push_str(&format!("Images are spared: {}.\n", escape(why)));
    }
    let freed = bytes(pruned.freed_bytes);
    let line = match (pruned.freed_bytes, dry_run) {
        (0, _) => "There is nothing to remove.\n".to_owned(),
        (_, true) => format!("{freed} would be freed.\n"),
        (_, false) => format!("{freed} are freed.\n"),
    };
    text + &line
}
