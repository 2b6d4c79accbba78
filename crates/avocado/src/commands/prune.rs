//! `avocado prune`.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[cfg(target_os = "linux")]
pub(super) fn run(
    session: &crate::session::Session,
    args: &PruneArgs,
) -> crate::failure::Result<()> {
    use avocado_text::{bytes, table};
    use serde_json::{Value, json};

    use super::build_run::{cancellable, failure, start};
    use super::project;
    use crate::output::WorkSummary;

    let project = project::load(session)?;
    start(session, "prune", &project, None);
    let cancel = cancellable(session)?;
    let pruned = avocado_build::prune(&project, args.dry_run, &cancel, &*session.output)
        .map_err(|e| failure(&e))?;
    let here = session.environment.current_dir()?;
    let mut summary = WorkSummary::default();
    let removed: Vec<Value> = pruned
        .leftovers
        .iter()
        .map(|l| json!({"path": l.path, "why": l.why, "bytes": l.bytes}))
        .collect();
    for (key, value) in [
        ("removed", json!(removed)),
        ("bytes", json!(pruned.bytes)),
        ("dry_run", json!(args.dry_run)),
    ] {
        summary.fields.insert(key.to_owned(), value);
    }
    let done = if args.dry_run { "Would free" } else { "Freed" };
    if pruned.leftovers.is_empty() {
        summary.closing = "Nothing to remove".to_owned();
    } else {
        let rows = pruned.leftovers.iter().map(|l| {
            let path = l.path.strip_prefix(&here).unwrap_or(&l.path);
            [path.display().to_string(), bytes(l.bytes), l.why.clone()]
        });
        summary.data = table(["PATH", "SIZE", "WHY"], rows, None);
        summary.closing = format!("{done} {}", bytes(pruned.bytes));
    }
    session.output.complete(summary)
}
