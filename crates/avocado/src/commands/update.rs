//! `avocado update`.

use std::collections::BTreeMap;

use serde_json::json;

use super::build_run::{cancellable, failure, options, start};
use crate::failure::Result;
use crate::output::WorkSummary;
use crate::session::Session;

pub(super) fn run(session: &Session) -> Result<()> {
    let options = options(session)?;
    start(session, "update", &options.project, None);
    let cancel = cancellable(session)?;
    let updated =
        avocado_build::update(&options, &cancel, &*session.output).map_err(|e| failure(&e))?;
    let closing = match (&updated.old, &updated.new) {
        (Some(old), Some(new)) if old == new => format!("{new} is the newest snapshot"),
        (Some(old), Some(new)) => format!("moved from snapshot {old} to {new}"),
        (None, Some(new)) => format!("pinned to snapshot {new}"),
        (_, None) => "the feed has no snapshots; the package pins are cleared".to_owned(),
    };
    session.output.complete(WorkSummary {
        fields: BTreeMap::from([("old", updated.old), ("new", updated.new)])
            .into_iter()
            .map(|(key, snapshot)| (key.to_owned(), json!(snapshot)))
            .collect(),
        closing: closing + "\nNext: avocado install",
        ..WorkSummary::default()
    })
}
