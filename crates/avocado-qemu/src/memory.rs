//! A paused guest's memory in a file: written, and read back by a new QEMU.
//!
//! QEMU calls this a migration to a file. With its capability `mapped-ram` every page has a fixed
//! place there, so the file is never longer than the memory, and pages of zeros take no space.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::time::{sleep, timeout};

use crate::arguments::Start;
use crate::events::Events;
use crate::launch::{self, Abandoned};
use crate::machine::{QUICK, RunState, SLOW};
use crate::process::{ExitStatus, Identity};
use crate::{Error, Machine, Spec};

/// How often QEMU is asked how far it is. A guest of 256 MiB takes about 15 ms.
const POLL: Duration = Duration::from_millis(10);
/// Bytes per second: no limit. QEMU's own one is meant for networks.
const BANDWIDTH: u64 = 1 << 40;

/// What is done with a file, for errors.
#[derive(Clone, Copy)]
enum Direction {
    Save,
    Restore,
}

/// Turns QEMU's refusal into an error that names the file.
fn about(path: &Path, direction: Direction) -> impl Fn(Error) -> Error + '_ {
    move |error| {
        let description = match error {
            Error::Refused { description, .. } => description,
            // By itself: it does not like the file. Killed for want of memory it says nothing of it.
            Error::Exited {
                status: ExitStatus::Code(_),
                stderr,
            } if matches!(direction, Direction::Restore) => stderr,
            other => return other,
        };
        failure(path, direction, description)
    }
}

fn failure(path: &Path, direction: Direction, description: String) -> Error {
    Error::Memory {
        action: match direction {
            Direction::Save => "written",
            Direction::Restore => "read",
        },
        path: path.to_owned(),
        description,
    }
}

/// The arguments that name the file. As a structure: as a URI, commas in the name mean options.
fn channel(path: &Path) -> Result<Value, Error> {
    let Some(name) = path.to_str() else {
        return Err(Error::NotUnicode {
            path: path.to_owned(),
        });
    };
    Ok(json!({
        "channels": [{
            "channel-type": "main",
            "addr": { "transport": "file", "filename": name, "offset": 0 },
        }],
    }))
}

async fn configure(machine: &Machine) -> Result<(), Error> {
    // Not with `multifd`, although several threads are faster: with it QEMU (10.0) crashes in one
    // of fifteen saves that are cancelled, and takes the guest along.
    let capabilities = json!({
        "capabilities": [{ "capability": "mapped-ram", "state": true }],
    });
    machine
        .ask("migrate-set-capabilities", capabilities, QUICK)
        .await?;
    let parameters = json!({ "max-bandwidth": BANDWIDTH });
    machine
        .ask("migrate-set-parameters", parameters, QUICK)
        .await
        .map(drop)
}

/// How far it is. None: still under way.
async fn progress(machine: &Machine) -> Result<Option<Result<(), String>>, Error> {
    let answer = machine.ask("query-migrate", json!({}), QUICK).await?;
    let status = answer.get("status").and_then(Value::as_str);
    Ok(match status.unwrap_or_default() {
        "completed" => Some(Ok(())),
        "failed" | "cancelled" => {
            let reason = answer.get("error-desc").and_then(Value::as_str);
            Some(Err(reason.unwrap_or("QEMU gives no reason").to_owned()))
        }
        _ => None,
    })
}

/// See [`Machine::save`].
pub(crate) async fn save(machine: &Machine, path: &Path) -> Result<(), Error> {
    let alone = machine.memory.clone().lock_owned().await;
    match machine.run_state().await? {
        RunState::Paused => {}
        RunState::Running => {
            return Err(Error::NotPaused {
                state: "running".to_owned(),
            });
        }
        RunState::Other(state) => return Err(Error::NotPaused { state }),
    }
    let channel = channel(path)?;
    create(path).map_err(|source| file_error("write", path, source))?;
    // A task of its own brings it to an end also where the caller stops waiting.
    let (waiting, abandoned) = oneshot::channel();
    let task = tokio::spawn(write(
        machine.clone(),
        path.to_owned(),
        channel,
        alone,
        abandoned,
    ));
    let result = match task.await {
        Ok(result) => result,
        Err(error) => Err(failure(path, Direction::Save, error.to_string())),
    };
    drop(waiting);
    result
}

/// Creates or empties the file, so that nobody else can ever read it.
fn create(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Removes what an unfinished save left.
struct Partial(Option<PathBuf>);

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Writes the file, and holds `alone` until QEMU is done with it.
async fn write(
    machine: Machine,
    path: PathBuf,
    channel: Value,
    alone: OwnedMutexGuard<()>,
    mut abandoned: oneshot::Receiver<()>,
) -> Result<(), Error> {
    let mut partial = Partial(Some(path.clone()));
    let told = about(&path, Direction::Save);
    configure(&machine).await.map_err(&told)?;
    let begun = machine.ask("migrate", channel, QUICK).await;
    // On a slow disk QEMU is silent for long. It goes on saving all the same, and would stop the
    // guest at the end: so this waits for its end whatever it takes.
    let mut cancelled = patient(begun).map_err(&told)?.is_none();
    if cancelled {
        // Whether it began at all is not known, and an earlier one may have been complete.
        give_up(&machine).await?;
    }
    let outcome = loop {
        let outcome = match cancelled {
            false => patient(progress(&machine).await)?.flatten(),
            true => {
                let over = patient(is_under_way(&machine).await)? == Some(false);
                over.then(|| Err("cancelled".to_owned()))
            }
        };
        if let Some(outcome) = outcome {
            break outcome;
        }
        tokio::select! {
            () = sleep(POLL) => {}
            _ = &mut abandoned, if !cancelled => {
                cancelled = true;
                give_up(&machine).await?;
            }
        }
    };
    outcome.map_err(|description| failure(&path, Direction::Save, description))?;
    let synced = path.clone();
    let sync = tokio::task::spawn_blocking(move || sync(&synced));
    tokio::select! {
        result = sync => match result {
            Ok(result) => result.map_err(|source| file_error("sync", &path, source))?,
            Err(error) => return Err(failure(&path, Direction::Save, error.to_string())),
        },
        _ = abandoned => {
            return Err(failure(&path, Direction::Save, "cancelled".to_owned()));
        }
    }
    drop(alone);
    partial.0 = None;
    Ok(())
}

async fn give_up(machine: &Machine) -> Result<(), Error> {
    let asked = machine.ask("migrate_cancel", json!({}), QUICK).await;
    patient(asked).map(drop)
}

/// None where QEMU has not answered yet; it takes what it was told in order, so it will.
fn patient<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Timeout { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes sure that the file and its name outlive a power cut.
fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    #[cfg(unix)]
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Ends a save whose supervisor was killed. It would go on, and stop the guest when it is complete,
/// in the middle of whatever that does by then.
pub(crate) async fn end_forgotten(machine: &Machine) -> Result<(), Error> {
    if machine.run_state().await? == RunState::Other("inmigrate".to_owned()) {
        // It waits for memory, and is of no use without.
        return Ok(());
    }
    if !is_under_way(machine).await? {
        return Ok(());
    }
    machine.ask("migrate_cancel", json!({}), QUICK).await?;
    let work = async {
        while is_under_way(machine).await? {
            sleep(POLL).await;
        }
        Ok(())
    };
    match timeout(SLOW, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout {
            command: "migrate_cancel".to_owned(),
            limit: SLOW,
        }),
    }
}

/// Whether QEMU is writing memory to a file.
async fn is_under_way(machine: &Machine) -> Result<bool, Error> {
    let answer = machine.ask("query-migrate", json!({}), QUICK).await?;
    // Where there never was a migration, there is no status.
    let status = answer.get("status").and_then(Value::as_str);
    let over = ["none", "completed", "failed", "cancelled"];
    Ok(status.is_some_and(|status| !over.contains(&status)))
}

/// See [`Machine::restore`].
pub(crate) async fn restore(
    spec: &Spec,
    path: &Path,
    note: impl FnOnce(Identity) + Send,
) -> Result<(Machine, Events), Error> {
    let channel = channel(path)?;
    let (machine, events) = launch::start(spec, Start::Incoming, note).await?;
    let abandoned = Abandoned::new(&machine.process);
    let told = about(path, Direction::Restore);
    configure(&machine).await.map_err(&told)?;
    machine
        .ask("migrate-incoming", channel, QUICK)
        .await
        .map_err(&told)?;
    let outcome = loop {
        match progress(&machine).await.map_err(&told)? {
            Some(outcome) => break outcome,
            None => sleep(POLL).await,
        }
    };
    outcome.map_err(|description| failure(path, Direction::Restore, description))?;
    abandoned.keep();
    Ok((machine, events))
}
