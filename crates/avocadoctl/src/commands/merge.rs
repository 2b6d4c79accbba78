//! `avocadoctl merge`, and what it has in common with `unmerge` and `refresh`.

use serde_json::json;

use super::Context;
use crate::access::{AccessMode, DeviceAccess, MergeAction};
use crate::failure::Failure;

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    merge(context, MergeAction::Merge)
}

pub(super) fn merge(context: &Context, action: MergeAction) -> Result<(), Failure> {
    let Context {
        settings, progress, ..
    } = context;
    let device = DeviceAccess::open(settings, AccessMode::Write)?;
    let result = device.merge(action, progress).or_else(|failure| {
        // Merging twice is merging once.
        DeviceAccess::open_instead(settings, AccessMode::Write, failure)?.merge(action, progress)
    });
    progress.clear();
    result?;
    context.output.result(&json!({"status": "ok"}), || {
        let done = match action {
            MergeAction::Merge => "merged",
            MergeAction::Unmerge { .. } => "unmerged",
            MergeAction::Refresh => "refreshed",
        };
        format!("The extensions are {done}.\n")
    })
}
