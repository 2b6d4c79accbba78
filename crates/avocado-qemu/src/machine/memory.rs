//! A paused guest's memory in a file: written, and read back by a new QEMU.
//!
//! QEMU calls this a migration to a file. With its capability `mapped-ram` every page has a fixed
//! place there, so the file is never longer than the memory, and pages of zeros take no space.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::time::{sleep, timeout};

use super::handle::{ANSWER_LIMIT, DISK_ANSWER_LIMIT, Machine, RunState};
use super::launch::{create_private, start_qemu};
use crate::arguments::StartMode;
use crate::error::QemuError;
use crate::events::MachineEvents;
use crate::exit_status::ExitStatus;
use crate::process::ProcessIdentity;
use crate::spec::MachineSpec;

/// How often QEMU is asked how far it is. A guest of 256 MiB takes about 15 ms.
const POLL: Duration = Duration::from_millis(10);
/// Bytes per second: no limit. QEMU's own one is meant for networks.
const BANDWIDTH: u64 = 1 << 40;

/// What is done with a file, for errors.
#[derive(Clone, Copy)]
enum MemoryDirection {
    Save,
    Restore,
}

/// Turns QEMU's refusal into an error that names the file.
fn name_file(path: &Path, direction: MemoryDirection) -> impl Fn(QemuError) -> QemuError + '_ {
    move |error| {
        let description = match error {
            QemuError::Refused { description, .. } => description,
            // By itself: it does not like the file. Killed for want of memory it says nothing of it.
            QemuError::Exited {
                status: ExitStatus::Code(_),
                stderr,
            } if matches!(direction, MemoryDirection::Restore) => stderr,
            other => return other,
        };
        memory_error(path, direction, description)
    }
}

fn memory_error(path: &Path, direction: MemoryDirection, description: String) -> QemuError {
    QemuError::Memory {
        action: match direction {
            MemoryDirection::Save => "written",
            MemoryDirection::Restore => "read",
        },
        path: path.to_owned(),
        description,
    }
}

/// The arguments that name the file. As a structure: as a URI, commas in the name mean options.
fn channel(path: &Path) -> Result<Value, QemuError> {
    let Some(name) = path.to_str() else {
        return Err(QemuError::NotUnicode {
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

async fn configure(machine: &Machine) -> Result<(), QemuError> {
    // Not with `multifd`, although several threads are faster: with it QEMU (10.0) crashes in one
    // of fifteen saves that are cancelled, and takes the guest along.
    let capabilities = json!({
        "capabilities": [{ "capability": "mapped-ram", "state": true }],
    });
    machine
        .ask("migrate-set-capabilities", capabilities, ANSWER_LIMIT)
        .await?;
    let parameters = json!({ "max-bandwidth": BANDWIDTH });
    machine
        .ask("migrate-set-parameters", parameters, ANSWER_LIMIT)
        .await
        .map(drop)
}

/// How far it is. None: still under way.
async fn migration_result(machine: &Machine) -> Result<Option<Result<(), String>>, QemuError> {
    let answer = machine
        .ask("query-migrate", json!({}), ANSWER_LIMIT)
        .await?;
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

/// Writes the memory of a paused machine to a file, and syncs it. QEMU is then still there,
/// paused, and can be resumed or quit. Where that fails, or where the caller stops waiting,
/// the file is removed and the machine is as before.
///
/// # Errors
/// [`QemuError::NotPaused`]; [`QemuError::Memory`] with QEMU's words, for example for a full disk
/// or a device that cannot be saved (a mounted workspace).
pub async fn save_memory(machine: &Machine, path: &Path) -> Result<(), QemuError> {
    let memory_lock = machine.memory_lock.clone().lock_owned().await;
    match machine.run_state().await? {
        RunState::Paused => {}
        RunState::Running => {
            return Err(QemuError::NotPaused {
                state: "running".to_owned(),
            });
        }
        RunState::Other(state) => return Err(QemuError::NotPaused { state }),
    }
    let channel = channel(path)?;
    create_private(path).map_err(|source| file_error("write", path, source))?;
    // A task of its own brings it to an end also where the caller stops waiting.
    let (waiting, given_up) = oneshot::channel();
    let task = tokio::spawn(write_memory(
        machine.clone(),
        path.to_owned(),
        channel,
        memory_lock,
        given_up,
    ));
    let result = match task.await {
        Ok(result) => result,
        Err(error) => Err(memory_error(path, MemoryDirection::Save, error.to_string())),
    };
    drop(waiting);
    result
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> QemuError {
    QemuError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Removes what an unfinished save left.
struct PartialMemoryFile(Option<PathBuf>);

impl Drop for PartialMemoryFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Writes the file, and holds the lock until QEMU is done with it.
async fn write_memory(
    machine: Machine,
    path: PathBuf,
    channel: Value,
    memory_lock: OwnedMutexGuard<()>,
    mut given_up: oneshot::Receiver<()>,
) -> Result<(), QemuError> {
    let mut partial = PartialMemoryFile(Some(path.clone()));
    let named = name_file(&path, MemoryDirection::Save);
    configure(&machine).await.map_err(&named)?;
    let begun = machine.ask("migrate", channel, ANSWER_LIMIT).await;
    // On a slow disk QEMU is silent for long. It goes on saving all the same, and would stop the
    // guest at the end: so this waits for its end whatever it takes.
    let mut cancelled = unless_late(begun).map_err(&named)?.is_none();
    if cancelled {
        // Whether it began at all is not known, and an earlier one may have been complete.
        cancel_migration(&machine).await?;
    }
    let outcome = loop {
        let outcome = if cancelled {
            let over = unless_late(is_migrating(&machine).await)? == Some(false);
            over.then(|| Err("cancelled".to_owned()))
        } else {
            unless_late(migration_result(&machine).await)?.flatten()
        };
        if let Some(outcome) = outcome {
            break outcome;
        }
        tokio::select! {
            () = sleep(POLL) => {}
            _ = &mut given_up, if !cancelled => {
                cancelled = true;
                cancel_migration(&machine).await?;
            }
        }
    };
    outcome.map_err(|description| memory_error(&path, MemoryDirection::Save, description))?;
    let synced = path.clone();
    let sync = tokio::task::spawn_blocking(move || sync(&synced));
    tokio::select! {
        result = sync => match result {
            Ok(result) => result.map_err(|source| file_error("sync", &path, source))?,
            Err(error) => return Err(memory_error(&path, MemoryDirection::Save, error.to_string())),
        },
        _ = given_up => {
            return Err(memory_error(&path, MemoryDirection::Save, "cancelled".to_owned()));
        }
    }
    drop(memory_lock);
    partial.0 = None;
    Ok(())
}

async fn cancel_migration(machine: &Machine) -> Result<(), QemuError> {
    let asked = machine.ask("migrate_cancel", json!({}), ANSWER_LIMIT).await;
    unless_late(asked).map(drop)
}

/// None where QEMU has not answered yet; it takes what it was told in order, so it will.
fn unless_late<T>(answer: Result<T, QemuError>) -> Result<Option<T>, QemuError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(QemuError::Timeout { .. }) => Ok(None),
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
pub(super) async fn cancel_orphaned_save(machine: &Machine) -> Result<(), QemuError> {
    if machine.run_state().await? == RunState::Other("inmigrate".to_owned()) {
        // It waits for memory, and is of no use without.
        return Ok(());
    }
    if !is_migrating(machine).await? {
        return Ok(());
    }
    machine
        .ask("migrate_cancel", json!({}), ANSWER_LIMIT)
        .await?;
    let work = async {
        while is_migrating(machine).await? {
            sleep(POLL).await;
        }
        Ok(())
    };
    match timeout(DISK_ANSWER_LIMIT, work).await {
        Ok(result) => result,
        Err(_) => Err(QemuError::Timeout {
            command: "migrate_cancel".to_owned(),
            limit: DISK_ANSWER_LIMIT,
        }),
    }
}

/// Whether QEMU is writing memory to a file.
async fn is_migrating(machine: &Machine) -> Result<bool, QemuError> {
    let answer = machine
        .ask("query-migrate", json!({}), ANSWER_LIMIT)
        .await?;
    // Where there never was a migration, there is no status.
    let status = answer.get("status").and_then(Value::as_str);
    let over = ["none", "completed", "failed", "cancelled"];
    Ok(status.is_some_and(|status| !over.contains(&status)))
}

/// Starts a machine with the memory that [`save_memory`] wrote; it comes up paused. As soon
/// as there is a process, `on_spawn` hears which one. The
/// spec must be equal to the one that was saved, and its disks unchanged. That is for the
/// caller to know: QEMU notices a device that is missing, but neither an additional one, nor
/// more memory, nor another content of a disk.
///
/// # Errors
/// Like [`crate::boot_machine`]; [`QemuError::Memory`] where the file is of no use. With every
/// other error it may be the next time.
pub async fn restore_machine(
    spec: &MachineSpec,
    path: &Path,
    on_spawn: impl FnOnce(ProcessIdentity) + Send,
) -> Result<(Machine, MachineEvents), QemuError> {
    let channel = channel(path)?;
    let (machine, events) = start_qemu(spec, StartMode::Incoming, on_spawn).await?;
    let guard = machine.kill_on_drop();
    let named = name_file(path, MemoryDirection::Restore);
    configure(&machine).await.map_err(&named)?;
    machine
        .ask("migrate-incoming", channel, ANSWER_LIMIT)
        .await
        .map_err(&named)?;
    let outcome = loop {
        match migration_result(&machine).await.map_err(&named)? {
            Some(outcome) => break outcome,
            None => sleep(POLL).await,
        }
    };
    outcome.map_err(|description| memory_error(path, MemoryDirection::Restore, description))?;
    guard.keep();
    Ok((machine, events))
}
