//! `avocado vm stop`.

use std::time::Duration;

use avocado_vm::channel;
use serde_json::json;

use super::{Session, failure, machine, state_dir};
use crate::cli::VmStopArgs;
use crate::failure::Result;
use crate::output::Summary;

pub(super) fn run(session: &Session, args: &VmStopArgs) -> Result<()> {
    let dir = state_dir(session)?;
    let timeout = args.timeout.map(Duration::from_secs);
    let stopped = machine::stop(session, &dir, args.force, timeout)?;
    channel::forget_running(&dir).map_err(failure)?;
    let mut summary = Summary::default();
    summary.fields.insert("stopped".into(), json!(stopped));
    summary.closing = match stopped {
        true => "the VM is stopped".into(),
        false => "the VM was not running".into(),
    };
    session.output.complete(summary)
}
