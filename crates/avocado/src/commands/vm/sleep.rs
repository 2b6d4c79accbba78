//! `avocado vm hibernate` and `avocado vm wake`.

use avocado_vm::control;
use serde_json::json;

use super::{machine, state_dir};
use crate::failure::Result;
use crate::output::WorkSummary;
use crate::session::Session;

pub(super) fn hibernate(session: &Session) -> Result<()> {
    let dir = state_dir(session)?;
    machine::supervised(&dir)?;
    control::hibernate(&dir).map_err(|error| machine::refused(&error))?;
    complete(
        session,
        true,
        "the guest sleeps; the next connection wakes it",
    )
}

pub(super) fn wake(session: &Session) -> Result<()> {
    let dir = state_dir(session)?;
    machine::supervised(&dir)?;
    control::wake(&dir).map_err(|error| machine::refused(&error))?;
    complete(session, false, "the guest runs")
}

fn complete(session: &Session, paused: bool, closing: &str) -> Result<()> {
    let mut summary = WorkSummary::default();
    summary.fields.insert("paused".into(), json!(paused));
    summary.closing = closing.into();
    session.output.complete(summary)
}
