//! `avocado vm update`.

use clap::Args;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use avocado_events::{Cancel, Event, EventKind, Sink, StepStatus};
use avocado_text::escape;
use avocado_vm::channel::{
    self, ChannelClient, ChannelOffer, DEFAULT_BASE, DEFAULT_CHANNEL, PendingImage, UpdateLock,
};
use avocado_vm::config::VmConfigFile;
use avocado_vm::dir::{StateDir, StateFile};
use avocado_vm::image::ImageDir;
use serde_json::{Map, Value, json};

use super::{failure, image, machine, state_dir};
use crate::commands::question;
use crate::failure::{Failure, Result};
use crate::interrupt::on_interrupt;
use crate::output::{Output, WorkSummary};
use crate::session::Session;

/// The largest root that is read, in bytes.
const LARGEST_ROOT: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The channel to follow [default: vm.channel of ~/.avocado/config.yaml, or stable]
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) channel: Option<String>,

    /// The version to install, where it is older than the one that is there
    #[arg(long, value_name = "VERSION", conflicts_with = "check")]
    pub(crate) to: Option<String>,

    /// Only say whether there is an update
    #[arg(long)]
    pub(crate) check: bool,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

pub(super) fn run(session: &Session, args: &UpdateArgs) -> Result<()> {
    let dir = state_dir(session)?;
    let output = &session.output;
    if args.check {
        return check(session, &dir, args);
    }
    let turn = UpdateLock::take(&dir).map_err(failure)?;
    let mut installed = None;
    if let Some(pending) = turn.pending().map_err(failure)? {
        output.emit(Event::info("finishing an update that was interrupted"));
        install(session, &dir, &turn, &pending)?;
        installed = pending.version().map(str::to_owned);
    }
    let source = source(session, &dir, args.channel.as_deref())?;
    let now = session.environment.now();
    let offer = source.offer(&dir, now).map_err(failure)?;
    offer.check_version(args.to.as_deref()).map_err(failure)?;
    let fetched = offer.differs();
    if fetched {
        confirm(args, &offer)?;
        let cancel = Cancel::new();
        let stop = cancel.clone();
        on_interrupt(output, move || stop.cancel())?;
        let sink = DownloadReporter(output);
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
        installed = Some(offer.version().to_owned());
    }
    if turn.was_running() {
        if !machine::status(&dir)?.running {
            machine::start_again(session, &dir)?;
            let other = machine::previous(&dir).filter(|l| l.image != dir.file(StateFile::Install));
            if let Some(other) = other {
                output.emit(Event::info(format!(
                    "the VM runs {}, not the installed image",
                    other.image.display()
                )));
            }
        }
        channel::forget_running(&dir).map_err(failure)?;
    }
    let mut summary = WorkSummary {
        fields: offer_fields(&source, &offer),
        ..WorkSummary::default()
    };
    summary
        .fields
        .insert("updated".into(), json!(installed.is_some()));
    summary
        .fields
        .insert("update_available".into(), json!(false));
    summary
        .fields
        .insert("installed".into(), json!(offer.version()));
    summary.closing = match installed {
        Some(version) => format!("the VM's image is now version {version}"),
        None => format!(
            "version {} is the newest, and is installed",
            offer.version()
        ),
    };
    output.complete(summary)
}

fn check(session: &Session, dir: &StateDir, args: &UpdateArgs) -> Result<()> {
    let source = source(session, dir, args.channel.as_deref())?;
    let now = session.environment.now();
    let offer = source.offer(dir, now).map_err(failure)?;
    session.output.answer(&offer_fields(&source, &offer), || {
        let newest = escape(offer.version());
        match (offer.update_available(), &offer.installed) {
            (false, Some(installed)) if offer.differs() => format!(
                "the channel has version {newest}, and {}, which is newer, is installed\n",
                escape(installed)
            ),
            (false, _) => format!("version {newest} is the newest, and is installed\n"),
            (true, Some(installed)) => {
                format!(
                    "version {newest} can be installed; version {} is there\n",
                    escape(installed)
                )
            }
            (true, None) => format!("version {newest} can be installed\n"),
        }
    })
}

/// The answer of `--check`.
fn offer_fields(source: &ChannelClient, offer: &ChannelOffer) -> Map<String, Value> {
    let mut fields = Map::from_iter([
        ("channel".to_owned(), json!(source.channel())),
        ("installed".to_owned(), json!(offer.installed)),
        ("remote".to_owned(), json!(offer.version())),
    ]);
    if let Some(released) = &offer.index.released_at {
        fields.insert("released_at".into(), json!(released));
    }
    let available = offer.update_available();
    fields.insert("update_available".into(), json!(available));
    fields
}

fn confirm(args: &UpdateArgs, offer: &ChannelOffer) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    let from = offer.installed.as_ref();
    let from = from
        .map(|v| format!(" in the place of {}", escape(v)))
        .unwrap_or_default();
    let version = escape(offer.version());
    let question = format!(
        "Install version {version} of the VM's image{from}? A running VM is restarted. [y/N] "
    );
    match question::ask(&question)?.as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::new("nothing was changed").hint("-y does not ask")),
    }
}

/// Stops the VM, and puts the new image in its place. Whether the VM shall run again is on record.
fn install(
    session: &Session,
    dir: &StateDir,
    turn: &UpdateLock,
    pending: &PendingImage,
) -> Result<()> {
    if machine::status(dir)?.running {
        turn.remember_running().map_err(failure)?;
        machine::stop_for(session, dir)?;
    } else if machine::is_saved(dir) {
        // It would not fit the new image: what is open in the guest ends as it should.
        machine::stop(session, dir, false, None)?;
    }
    let lock = image::lock_stopped(dir, "avocado vm update")?;
    turn.install(pending, &lock).map_err(failure)
}

/// Finishes an update that was interrupted between two files, before a start meets a mixture.
pub(super) fn finish_interrupted(session: &Session, dir: &StateDir) -> Result<()> {
    // Nor is a download in the way of another command.
    if !channel::is_pending(dir) {
        return Ok(());
    }
    let turn = UpdateLock::take(dir).map_err(failure)?;
    if let Some(pending) = turn.pending().map_err(failure)? {
        session
            .output
            .emit(Event::info("finishing an update that was interrupted"));
        let lock = image::lock_stopped(dir, "avocado vm start")?;
        turn.install(&pending, &lock).map_err(failure)?;
    }
    Ok(())
}

/// The channel: the option, `vm.channel` of the user's file, or the usual one.
fn source(session: &Session, dir: &StateDir, told: Option<&str>) -> Result<ChannelClient> {
    let environment = &session.environment;
    let channel = match told {
        Some(told) => told.to_owned(),
        None => user_setting(session, "vm.channel")?.unwrap_or_else(|| DEFAULT_CHANNEL.to_owned()),
    };
    let base = environment.vm_channel_base().unwrap_or(DEFAULT_BASE);
    let network = environment.network(base);
    let client = ChannelClient::new(base, &channel, &platform(dir), &network).map_err(failure)?;
    let Some(root) = user_setting(session, "vm.channel_root")? else {
        return Ok(client);
    };
    let home = environment.user_config();
    let beside = home
        .as_deref()
        .and_then(Path::parent)
        .unwrap_or(Path::new("."));
    let path = beside.join(root);
    let root =
        avocado_fs::read_at_most(&path, LARGEST_ROOT).map_err(|e| Failure::from_error(&e))?;
    Ok(client.signed_under(root))
}

/// A text of the user's `~/.avocado/config.yaml`.
fn user_setting(session: &Session, key: &str) -> Result<Option<String>> {
    let Some(path) = session.environment.user_config() else {
        return Ok(None);
    };
    let file = VmConfigFile::load(&path).map_err(failure)?;
    match file.get(key).map_err(failure)? {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => {
            let what = format!("`{key}` of {} is no text", path.display());
            Err(Failure::new(what))
        }
    }
}

/// That of the installed image, or of this machine's processor.
fn platform(dir: &StateDir) -> String {
    match ImageDir::load(&dir.file(StateFile::Install)) {
        Ok(image) => image.manifest().platform.clone(),
        Err(_) => match std::env::consts::ARCH {
            "aarch64" => "avocado-qemuarm64".to_owned(),
            _ => "avocado-qemux86-64".to_owned(),
        },
    }
}

/// Looks for a newer version than the image of a start, where the channel named one within the
/// last day or does so soon. No command waits for the answer.
pub(super) fn newer(session: &Session, dir: &StateDir, image: &Path) -> Option<Receiver<String>> {
    if !session.environment.checks_for_updates() || image != dir.file(StateFile::Install) {
        return None;
    }
    let installed = ImageDir::load(image).ok()?.manifest().version.clone()?;
    let source = source(session, dir, None).ok()?;
    let (now, dir) = (session.environment.now(), dir.clone());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if let Ok(index) = source.remembered(&dir, now)
            && let Some(newest) = index.version_for(source.platform())
            && channel::is_newer(newest, &installed)
        {
            // The start that asked may have ended.
            _ = tell.send(format!(
                "version {newest} of the VM's image is there ({installed} is installed): \
                 `avocado vm update`"
            ));
        }
    });
    Some(told)
}

fn interrupted(error: avocado_vm::VmError) -> Failure {
    match error {
        avocado_vm::VmError::Channel(channel::ChannelError::Cancelled) => Failure::interrupted()
            .hint("what was downloaded stays for the next `avocado vm update`"),
        error => failure(error),
    }
}

/// A download, in the words that programs know; for people it is a step like any other.
struct DownloadReporter<'a>(&'a Arc<Output>);

impl Sink for DownloadReporter<'_> {
    fn emit(&self, event: Event) {
        let document = match (event.kind, event.status) {
            (EventKind::Step, Some(StepStatus::Running)) if event.done.is_none() => {
                json!({"event": "download_started", "version": event.message})
            }
            (EventKind::Step, Some(StepStatus::Running)) => json!({
                "event": "download_progress",
                "file": event.item,
                "done": event.done,
                "total": event.total,
            }),
            (EventKind::Step, Some(StepStatus::Success)) => {
                json!({"event": "download_completed", "version": event.message})
            }
            _ => return self.0.emit(event),
        };
        if !self.0.document(&document) {
            self.0.emit(event);
        }
    }
}
