//! `avocadoctl ext status`.

use avocado_text::table;

use super::{kind_text, version_text};
use crate::access::AccessMode;
use crate::commands::Context;
use crate::failure::Failure;
use crate::interface::ExtensionStatus;
use crate::output::WIDTH;

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let statuses = context.device(AccessMode::Read)?.statuses()?.extensions;
    context.output.result(&statuses, || table_of(&statuses))
}

/// What is merged and what should be, as a table.
pub(in crate::commands) fn table_of(statuses: &[ExtensionStatus]) -> String {
    if statuses.is_empty() {
        return "There are no extensions.\n".to_owned();
    }
    let rows = statuses.iter().map(|e| {
        let merged = if e.is_merged { "yes" } else { "no" };
        let image = e
            .image_id
            .as_deref()
            .map_or("-", |id| id.get(..8).unwrap_or(id));
        [
            e.name.clone(),
            version_text(e.version.as_deref()),
            kind_text(e.is_sysext, e.is_confext).to_owned(),
            merged.to_owned(),
            image.to_owned(),
        ]
    });
    table(
        ["EXTENSION", "VERSION", "TYPE", "MERGED", "IMAGE"],
        rows,
        WIDTH,
    )
}
