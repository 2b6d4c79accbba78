//! `avocado vm update`.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use avocado_events::{Cancel, Event, Kind, Sink, Status};
use avocado_vm::channel::{self, DEFAULT_BASE, DEFAULT_CHANNEL, Offer, Pending, Source, Turn};
use avocado_vm::config::ConfigFile;
use avocado_vm::dir::{File, StateDir};
use avocado_vm::image::Image;
use serde_json::{Map, Value, json};

use super::{Session, failure, image, machine, state_dir};
use crate::cli::VmUpdateArgs;
use crate::failure::{Failure, Result};
use crate::interrupt::on_interrupt;
use crate::output::{Output, Summary};

pub(super) fn run(session: &Session, args: &VmUpdateArgs) -> Result<()> {
    let dir = state_dir(session)?;
    let output = &session.output;
    if args.check {
        return check(session, &dir, args);
    }
    let turn = Turn::take(&dir).map_err(failure)?;
    let mut installed = None;
    if let Some(pending) = turn.pending().map_err(failure)? {
        output.emit(Event::info("finishing an update that was interrupted"));
        install(session, &dir, &turn, &pending)?;
        installed = pending.version().map(str::to_owned);
    }
    let source = source(session, &dir, args.channel.as_deref())?;
    let now = session.environment.now();
    let offer = source.offer(&dir, now).map_err(failure)?;
    let fetched = offer.update_available();
    if fetched {
        confirm(args, &offer)?;
        let cancel = Cancel::new();
        let stop = cancel.clone();
        on_interrupt(output, move || stop.cancel())?;
        let sink = Progress(output);
        let pending = turn
            .download(&source, &offer, &cancel, &sink)
            .map_err(interrupted)?;
        if offer.new_seed {
            output.emit(Event::warning(
                "the image brings another /var to begin with, and yours stays as it is; \
                 `avocado vm reset` begins anew",
            ));
        }
        install(session, &dir, &turn, &pending)?;
        installed = Some(offer.index.version.clone());
    }
    if turn.was_running() {
        if !machine::status(&dir)?.running {
            machine::start_again(session, &dir)?;
            let other = machine::previous(&dir).filter(|l| l.image != dir.file(File::Install));
            if let Some(other) = other {
                output.emit(Event::info(format!(
                    "the VM runs {}, not the installed image",
                    other.image.display()
                )));
            }
        }
        channel::forget_running(&dir).map_err(failure)?;
    }
    let mut summary = Summary {
        fields: told(&source, &offer),
        ..Summary::default()
    };
    summary
        .fields
        .insert("updated".into(), json!(installed.is_some()));
    summary
        .fields
        .insert("update_available".into(), json!(false));
    summary
        .fields
        .insert("installed".into(), json!(offer.index.version));
    summary.closing = match installed {
        Some(version) => format!("the VM's image is now version {version}"),
        None => format!(
            "version {} is the newest, and is installed",
            offer.index.version
        ),
    };
    output.complete(summary)
}

fn check(session: &Session, dir: &StateDir, args: &VmUpdateArgs) -> Result<()> {
    let source = source(session, dir, args.channel.as_deref())?;
    let now = session.environment.now();
    let offer = source.offer(dir, now).map_err(failure)?;
    session.output.answer(&told(&source, &offer), || {
        let newest = &offer.index.version;
        match (offer.update_available(), &offer.installed) {
            (false, _) => format!("version {newest} is the newest, and is installed\n"),
            (true, Some(installed)) => {
                format!("version {newest} can be installed; version {installed} is there\n")
            }
            (true, None) => format!("version {newest} can be installed\n"),
        }
    })
}

/// The answer of `--check`.
fn told(source: &Source, offer: &Offer) -> Map<String, Value> {
    let mut fields = Map::from_iter([
        ("channel".to_owned(), json!(source.channel())),
        ("installed".to_owned(), json!(offer.installed)),
        ("remote".to_owned(), json!(offer.index.version)),
    ]);
    if let Some(released) = &offer.index.released_at {
        fields.insert("released_at".into(), json!(released));
    }
    let available = offer.update_available();
    fields.insert("update_available".into(), json!(available));
    fields
}

fn confirm(args: &VmUpdateArgs, offer: &Offer) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    let from = offer.installed.as_ref();
    let from = from
        .map(|v| format!(" in the place of {v}"))
        .unwrap_or_default();
    let version = &offer.index.version;
    let question = format!(
        "Install version {version} of the VM's image{from}? A running VM is restarted. [y/N] "
    );
    match machine::ask(&question)?.as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::new("nothing was changed").hint("-y does not ask")),
    }
}

/// Stops the VM, and puts the new image in its place. Whether the VM shall run again is on record.
fn install(session: &Session, dir: &StateDir, turn: &Turn, pending: &Pending) -> Result<()> {
    if machine::status(dir)?.running {
        turn.remember_running().map_err(failure)?;
        machine::stop_for(session, dir)?;
    } else if machine::is_saved(dir) {
        // It would not fit the new image: what is open in the guest ends as it should.
        machine::stop(session, dir, false, None)?;
    }
    let lock = image::stopped(dir, "avocado vm update")?;
    turn.install(pending, &lock).map_err(failure)
}

/// Finishes an update that was interrupted between two files, before a start meets a mixture.
pub(super) fn finish_interrupted(session: &Session, dir: &StateDir) -> Result<()> {
    // Nor is a download in anybody's way.
    if !channel::is_pending(dir) {
        return Ok(());
    }
    let turn = Turn::take(dir).map_err(failure)?;
    if let Some(pending) = turn.pending().map_err(failure)? {
        session
            .output
            .emit(Event::info("finishing an update that was interrupted"));
        let lock = image::stopped(dir, "avocado vm start")?;
        turn.install(&pending, &lock).map_err(failure)?;
    }
    Ok(())
}

/// The channel: the option, `vm.channel` of the user's file, or the usual one.
fn source(session: &Session, dir: &StateDir, told: Option<&str>) -> Result<Source> {
    let environment = &session.environment;
    let channel = match (told, environment.user_config()) {
        (Some(told), _) => told.to_owned(),
        (None, None) => DEFAULT_CHANNEL.to_owned(),
        (None, Some(path)) => {
            let file = ConfigFile::load(&path).map_err(failure)?;
            let channel = file.get("vm.channel").map_err(failure)?;
            match channel {
                None => DEFAULT_CHANNEL.to_owned(),
                Some(Value::String(channel)) => channel.clone(),
                Some(_) => {
                    let what = format!("`vm.channel` of {} is no text", path.display());
                    return Err(Failure::new(what));
                }
            }
        }
    };
    let base = environment.vm_channel_base().unwrap_or(DEFAULT_BASE);
    let network = environment.network(base);
    Source::new(base, &channel, &platform(dir), &network).map_err(failure)
}

/// That of the installed image, or of this machine's processor.
fn platform(dir: &StateDir) -> String {
    match Image::load(&dir.file(File::Install)) {
        Ok(image) => image.manifest().platform.clone(),
        Err(_) => match std::env::consts::ARCH {
            "aarch64" => "avocado-qemuarm64".to_owned(),
            _ => "avocado-qemux86-64".to_owned(),
        },
    }
}

/// Looks for a newer version than the image of a start, where the channel named one within the
/// last day or does so soon. Nobody waits for the answer.
pub(super) fn newer(session: &Session, dir: &StateDir, image: &Path) -> Option<Receiver<String>> {
    if !session.environment.checks_for_updates() || image != dir.file(File::Install) {
        return None;
    }
    let installed = Image::load(image).ok()?.manifest().version.clone()?;
    let source = source(session, dir, None).ok()?;
    let (now, dir) = (session.environment.now(), dir.clone());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if let Ok(index) = source.remembered(&dir, now)
            && index.version != installed
        {
            // Whoever asked may have gone.
            _ = tell.send(format!(
                "version {} of the VM's image is there ({installed} is installed): \
                 `avocado vm update`",
                index.version
            ));
        }
    });
    Some(told)
}

fn interrupted(error: avocado_vm::Error) -> Failure {
    match error {
        avocado_vm::Error::Channel(channel::Error::Cancelled) => Failure::interrupted()
            .hint("what was downloaded stays for the next `avocado vm update`"),
        error => failure(error),
    }
}

/// A download, in the words that programs know; for people it is a step like any other.
struct Progress<'a>(&'a Arc<Output>);

impl Sink for Progress<'_> {
    fn emit(&self, event: Event) {
        let document = match (event.kind, event.status) {
            (Kind::Step, Some(Status::Running)) if event.done.is_none() => {
                json!({"event": "download_started", "version": event.message})
            }
            (Kind::Step, Some(Status::Running)) => json!({
                "event": "download_progress",
                "file": event.item,
                "done": event.done,
                "total": event.total,
            }),
            (Kind::Step, Some(Status::Success)) => {
                json!({"event": "download_completed", "version": event.message})
            }
            _ => return self.0.emit(event),
        };
        if !self.0.document(&document) {
            self.0.emit(event);
        }
    }
}
