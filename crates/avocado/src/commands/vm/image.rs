//! `avocado vm rebuild` and `avocado vm reset`.

use avocado_events::{Event, Sink};
use avocado_vm::dir::{File, StateDir};
use avocado_vm::image::{Image, MANIFEST};
use avocado_vm::lock::Lock;
use avocado_vm::{access, disk};
use serde_json::json;

use super::{Session, failure, launch, machine, state_dir};
use crate::cli::{VmRebuildArgs, VmResetArgs, VmStartArgs};
use crate::failure::{Failure, Result};
use crate::output::Summary;

/// What has to be typed before everything is lost.
const WORD: &str = "reset";

pub(super) fn rebuild(session: &Session, args: &VmRebuildArgs) -> Result<()> {
    let dir = state_dir(session)?;
    let source = match &args.vm_source {
        Some(source) => Some(source.clone()),
        None => session.environment.vm_image()?,
    };
    let source = source.ok_or_else(|| {
        Failure::usage("there is no image to take")
            .hint("--vm-source or AVOCADO_VM_DIR names the directory of one")
    })?;
    let image = Image::load(&launch::directory(&source)?).map_err(failure)?;
    image.verify(&*session.output).map_err(failure)?;
    let lock = stopped(&dir, "avocado vm rebuild")?;
    if machine::is_saved(&dir) {
        return Err(Failure::new(
            "the guest's memory is saved, and fits only the image that it was saved from",
        )
        .hint(
            "`avocado vm stop` shuts the guest down properly first; `avocado vm stop \
             --force` gives its memory up",
        ));
    }
    let path = image.dir().display().to_string();
    dir.write(File::ArtifactDir, format!("{path}\n").as_bytes())
        .map_err(failure)?;
    forget(&dir)?;
    if args.reset_data {
        let size = disk::DEFAULT_VAR_SIZE;
        disk::reset_var(&dir, &image, size, &*session.output).map_err(failure)?;
    }
    drop(lock);
    if dir.file(File::Install).join(MANIFEST).exists() {
        session.output.emit(Event::warning(format!(
            "{} holds an image as well, and `avocado vm start` prefers it: pass --vm-source {path}",
            dir.file(File::Install).display()
        )));
    }
    let mut summary = Summary::default();
    summary.fields.insert("image".into(), json!(path));
    summary
        .fields
        .insert("reset".into(), json!(args.reset_data));
    summary.closing = format!("the next start runs {path}");
    session.output.complete(summary)
}

pub(super) fn reset(session: &Session, args: &VmResetArgs) -> Result<()> {
    let dir = state_dir(session)?;
    let launch = launch::resolve(session, &dir, &VmStartArgs::default());
    let previous = machine::previous(&dir);
    let source = match (&previous, launch) {
        (Some(previous), _) if previous.image.join(MANIFEST).exists() => previous.image.clone(),
        (_, launch) => launch?.image,
    };
    let image = Image::load(&source).map_err(failure)?;
    if !args.yes {
        let memory = match machine::is_saved(&dir) {
            true => "The guest's saved memory is lost too: its programs do not go on.\n",
            false => "",
        };
        let question = format!(
            "everything in the guest's /var is lost: containers, logs, what you installed.\n\
             {memory}Type `{WORD}` to go on: "
        );
        if machine::ask(&question)?.as_deref() != Some(WORD) {
            return Err(Failure::new("nothing was changed").hint("-y does not ask"));
        }
    }
    let running = machine::stop_for(session, &dir)?;
    let size = previous.map_or(disk::DEFAULT_VAR_SIZE, |launch| launch.var_size);
    let lock = stopped(&dir, "avocado vm reset")?;
    forget(&dir)?;
    disk::reset_var(&dir, &image, size, &*session.output).map_err(failure)?;
    drop(lock);
    let mut summary = Summary::default();
    if running {
        machine::start_again(session, &dir)?;
    }
    summary.fields.insert("running".into(), json!(running));
    summary.closing = "the VM has a fresh /var".into();
    session.output.complete(summary)
}

/// The lock, where nothing runs.
pub(super) fn stopped(dir: &StateDir, doing: &str) -> Result<Lock> {
    let lock = Lock::take(dir, doing).map_err(|error| {
        let busy = matches!(error, avocado_vm::Error::Busy { .. });
        match busy {
            true => failure(error).hint("stop the VM first: `avocado vm stop`"),
            false => failure(error),
        }
    })?;
    match machine::status(dir)?.running {
        true => Err(Failure::new("the VM is running").hint("stop it first: `avocado vm stop`")),
        false => Ok(lock),
    }
}

/// What belongs to the guest as it was: its saved memory, what ran it, its host key.
fn forget(dir: &StateDir) -> Result<()> {
    // What makes the memory count goes first.
    for file in [File::Saved, File::SavedMemory, File::Machine] {
        dir.remove(file).map_err(failure)?;
    }
    access::forget_host(dir).map_err(failure)
}
