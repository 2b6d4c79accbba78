//! `avocado vm rebuild`.

use std::path::PathBuf;

use avocado_events::{Event, Sink};
use avocado_vm::dir::StateFile;
use avocado_vm::disk;
use avocado_vm::image::MANIFEST;
use clap::Args;
use serde_json::json;

use super::image::{forget_guest, lock_stopped};
use super::{failure, launch, machine, state_dir};
use crate::failure::{Failure, Result};
use crate::output::WorkSummary;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct RebuildArgs {
    /// Directory of the image: manifest.json and the files that it names [default:
    /// AVOCADO_VM_DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) vm_source: Option<PathBuf>,

    /// Also begin with a fresh /var: everything in the guest is lost
    #[arg(long)]
    pub(crate) reset_data: bool,
}

pub(super) fn run(session: &Session, args: &RebuildArgs) -> Result<()> {
    let dir = state_dir(session)?;
    let image = launch::load_named_image(session, args.vm_source.as_deref())?;
    image.verify(&*session.output).map_err(failure)?;
    let lock = lock_stopped(&dir, "avocado vm rebuild")?;
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
    dir.write(StateFile::ArtifactDir, format!("{path}\n").as_bytes())
        .map_err(failure)?;
    forget_guest(&dir)?;
    if args.reset_data {
        let size = disk::DEFAULT_VAR_SIZE;
        disk::reset_var(&dir, &image, size, &*session.output).map_err(failure)?;
    }
    drop(lock);
    if dir.file(StateFile::Install).join(MANIFEST).exists() {
        session.output.emit(Event::warning(format!(
            "{} holds an image as well, and `avocado vm start` prefers it: pass --vm-source {path}",
            dir.file(StateFile::Install).display()
        )));
    }
    let mut summary = WorkSummary::default();
    summary.fields.insert("image".into(), json!(path));
    summary
        .fields
        .insert("reset".into(), json!(args.reset_data));
    summary.closing = format!("the next start runs {path}");
    session.output.complete(summary)
}
