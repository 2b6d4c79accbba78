//! `avocado vm delete`.

use avocado_vm::dir::{StateDir, StateFile};
use avocado_vm::named::{self, VmName};
use clap::Args;
use serde_json::json;

use super::image::lock_stopped;
use super::{autostart, docker_context, failure, machine};
use crate::commands::question;
use crate::failure::{Failure, Result};
use crate::output::WorkSummary;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The VM; `default` is the one that needs no name
    #[arg(value_name = "NAME")]
    pub(crate) vm: VmName,

    /// Also one that runs, which ends without asking the guest, and one whose memory is saved
    #[arg(long)]
    pub(crate) force: bool,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

pub(super) fn run(session: &Session, args: &DeleteArgs) -> Result<()> {
    if session.vm_name.get().is_some() || session.environment.vm_stated_dir()?.is_some() {
        return Err(Failure::usage("the VM to delete is stated twice")
            .hint("`avocado vm delete NAME` takes neither --name nor AVOCADO_VM_STATE_DIR"));
    }
    let name = args.vm.as_str();
    let dir = session.environment.user_vms()?.dir(&args.vm);
    match std::fs::symlink_metadata(dir.root()) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            return Err(Failure::new(format!(
                "{} is no directory, and nothing was removed",
                dir.root().display()
            ))
            .hint("a link to a VM is yours to remove"));
        }
        Err(_) => {
            return Err(Failure::new(format!("there is no VM `{name}`"))
                .hint("`avocado vm list` tells which there are"));
        }
    }
    let running = machine::look(&dir)?.running;
    if running && !args.force {
        return Err(Failure::new(format!("the VM `{name}` runs")).hint(format!(
            "stop it first: `avocado vm --name {name} stop`; --force ends it without asking the guest"
        )));
    }
    refuse_saved(&dir, args)?;
    let bytes = named::disk_use(&dir).map_err(failure)?;
    if !args.yes {
        let question = format!("{}Type `{name}` to go on: ", what_goes(&dir, bytes));
        if question::ask(&question)?.as_deref() != Some(name) {
            return Err(Failure::new("nothing was removed").hint("-y does not ask"));
        }
    }
    if running {
        machine::stop(session, &dir, true, None)?;
    }
    let lock = lock_stopped(&dir, "avocado vm delete")?;
    refuse_saved(&dir, args)?;
    let removed = named::remove(&dir).map_err(failure);
    drop(lock);
    if removed.is_err() && dir.root().exists() {
        return removed;
    }
    let mut left = Vec::new();
    left.extend(autostart::forget(session, &args.vm)?);
    left.extend(docker_context::forget(session, &dir));
    removed?;
    let mut summary = WorkSummary::default();
    summary.fields.insert("name".into(), json!(name));
    summary.fields.insert("disk_bytes".into(), json!(bytes));
    let gone = format!(
        "the VM `{name}` is gone: {} was removed ({})",
        dir.root().display(),
        avocado_text::bytes(bytes)
    );
    left.insert(0, gone);
    summary.closing = left.join("\n");
    session.output.complete(summary)
}

fn refuse_saved(dir: &StateDir, args: &DeleteArgs) -> Result<()> {
    let name = args.vm.as_str();
    if !args.force && machine::is_saved(dir) {
        return Err(Failure::new(format!(
            "the memory of the VM `{name}` is saved, and what is open in its guest would be lost"
        ))
        .hint(format!(
            "`avocado vm --name {name} stop` shuts the guest down; --force gives the memory up"
        )));
    }
    Ok(())
}

fn what_goes(dir: &StateDir, bytes: u64) -> String {
    let mut parts = vec!["the guest's /var with all that was installed and stored there"];
    if dir.file(StateFile::Data).exists() {
        parts.push("its second disk (data.qcow2)");
    }
    if machine::is_saved(dir) {
        parts.push("its saved memory");
    }
    if dir.file(StateFile::Install).exists() {
        parts.push("the image that is installed for it");
    }
    parts.push("its configuration, keys and logs");
    format!(
        "{} goes, {}:\n{}.\n",
        dir.root().display(),
        avocado_text::bytes(bytes),
        parts.join(", ")
    )
}
