//! `avocado vm restart`.

use std::time::Duration;

use avocado_events::{Event, Sink};
use avocado_vm::{channel, control};
use clap::Args;

use super::start_args::StartArgs;
use super::{boot_progress, failure, launch, machine, start, state_dir, update};
use crate::failure::{Failure, Result};
use crate::output::WorkStart;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// End the VM without asking the guest: what it has not written is lost, saved memory too
    #[arg(long)]
    pub(crate) force: bool,

    /// How long the guest may take to shut down, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
}

pub(super) fn run(session: &Session, args: &RestartArgs) -> Result<()> {
    let dir = state_dir(session)?;
    session.output.start(&WorkStart {
        action: "vm restart",
        target: None,
        runtime: None,
    });
    // What cannot be started again is not stopped.
    launch::again(session, &dir)?;
    let timeout = args.timeout.map(Duration::from_secs);
    let was_there = machine::stop(session, &dir, args.force, timeout)?;
    channel::forget_running(&dir).map_err(failure)?;
    if args.force {
        control::give_up_saved(&dir).map_err(|e| machine::refused(&e))?;
    }
    update::finish_interrupted(session, &dir)?;
    let launch = if was_there {
        session.output.emit(Event::info("the VM is stopped"));
        launch::again(session, &dir)?
    } else {
        // The next start of a VM that does not run may be one of another image.
        launch::resolve(session, &dir, &StartArgs::default())?
    };
    let interrupt = machine::InterruptStop::new(session, &dir, false)?;
    let status = match boot_progress::start(session, &dir, &launch) {
        Err(_) if interrupt.interrupted() => return Err(Failure::interrupted()),
        started => started?,
    };
    start::done(session, &status, "the VM runs")
}
