//! `avocado vm stop`.

use clap::Args;
use std::time::Duration;

use avocado_vm::{channel, control};
use serde_json::json;

use super::{failure, machine, state_dir};
use crate::failure::Result;
use crate::output::WorkSummary;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// End the VM without asking the guest: what it has not written is lost, saved memory too
    #[arg(long)]
    pub(crate) force: bool,

    /// How long the guest may take to shut down, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
}

pub(super) fn run(session: &Session, args: &StopArgs) -> Result<()> {
    let dir = state_dir(session)?;
    let timeout = args.timeout.map(Duration::from_secs);
    let stopped = machine::stop(session, &dir, args.force, timeout)?;
    channel::forget_running(&dir).map_err(failure)?;
    let given_up = args.force && control::give_up_saved(&dir).map_err(|e| machine::refused(&e))?;
    let mut summary = WorkSummary::default();
    summary.fields.insert("stopped".into(), json!(stopped));
    summary.closing = match (stopped, given_up) {
        (true, _) => "the VM is stopped".into(),
        (false, true) => "the VM was not running; its saved memory is given up".into(),
        (false, false) => "the VM was not running".into(),
    };
    session.output.complete(summary)
}
