//! `avocadoctl os`: the operating system that runs.

use avocado_device::{Device, TrialEnd};
use clap::Subcommand;
use serde_json::json;

use super::{Context, group_hint};
use crate::failure::Failure;

/// What is shown for `os` alone.
const OVERVIEW: &str = "\
avocadoctl os - the operating system that runs

  avocadoctl os commit    commit an update that runs on trial, or go back

Try `avocadoctl os --help` for all commands.
";

#[derive(Debug, Subcommand)]
pub(crate) enum OsCommand {
    /// Commit an OS update that runs on trial if the system is well, or go back
    #[command(after_help = "\
Waits for boot-complete.target, and runs the programs in /etc/avocado/health.d and, of /etc/greenboot \
and /usr/lib/greenboot, in check/required.d and check/wanted.d. avocado-commit.service does this at \
each boot that is on trial. For root alone.")]
    Commit,
}

pub(super) fn run(command: Option<&OsCommand>, context: &Context) -> Result<(), Failure> {
    match command {
        None => group_hint(context, OVERVIEW),
        Some(OsCommand::Commit) => commit(context),
    }
}

/// Not through the service: what it may not do, a health check may have to.
fn commit(context: &Context) -> Result<(), Failure> {
    let device = Device::new(context.settings.config.clone());
    let end = device.end_trial(&context.progress);
    context.progress.clear();
    let end = end.map_err(|error| Failure::of_runtimes(&error, true))?;
    let committed = end == TrialEnd::Committed;
    let settled = end != TrialEnd::Unsettled;
    context.output.result(
        &json!({"status": "ok", "committed": committed, "settled": settled}),
        || {
            let text = match end {
                TrialEnd::Committed => "The OS update is committed.\n",
                TrialEnd::NothingOnTrial => "No OS update is on trial.\n",
                TrialEnd::Unsettled => {
                    "An OS update waits for its proof still; `avocadoctl status` tells why.\n"
                }
            };
            text.to_owned()
        },
    )
}
