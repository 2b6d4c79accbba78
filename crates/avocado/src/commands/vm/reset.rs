//! `avocado vm reset`.

use avocado_vm::disk;
use avocado_vm::image::{ImageDir, MANIFEST};
use clap::Args;
use serde_json::json;

use super::image::{forget_guest, lock_stopped};
use super::start_args::StartArgs;
use super::{failure, launch, machine, state_dir};
use crate::commands::question;
use crate::failure::{Failure, Result};
use crate::output::WorkSummary;
use crate::session::Session;

/// What has to be typed before everything is lost.
const WORD: &str = "reset";

#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

pub(super) fn run(session: &Session, args: &ResetArgs) -> Result<()> {
    let dir = state_dir(session)?;
    let launch = launch::resolve(session, &dir, &StartArgs::default());
    let previous = machine::previous(&dir);
    let source = match (&previous, launch) {
        (Some(previous), _) if previous.image.join(MANIFEST).exists() => previous.image.clone(),
        (_, launch) => launch?.image,
    };
    let image = ImageDir::load(&source).map_err(failure)?;
    if !args.yes {
        let memory = if machine::is_saved(&dir) {
            "The guest's saved memory is lost too: its programs do not go on.\n"
        } else {
            ""
        };
        let question = format!(
            "everything in the guest's /var is lost: containers, logs, what you installed.\n\
             {memory}Type `{WORD}` to go on: "
        );
        if question::ask(&question)?.as_deref() != Some(WORD) {
            return Err(Failure::new("nothing was changed").hint("-y does not ask"));
        }
    }
    let running = machine::stop_for(session, &dir)?;
    let size = previous.map_or(disk::DEFAULT_VAR_SIZE, |launch| launch.var_size);
    let lock = lock_stopped(&dir, "avocado vm reset")?;
    forget_guest(&dir)?;
    disk::reset_var(&dir, &image, size, &*session.output).map_err(failure)?;
    drop(lock);
    let mut summary = WorkSummary::default();
    if running {
        machine::start_again(session, &dir)?;
    }
    summary.fields.insert("running".into(), json!(running));
    summary.closing = "the VM has a fresh /var".into();
    session.output.complete(summary)
}
