//! What a change of the configuration means for a VM that is there.

use avocado_events::{Event, Sink};
use avocado_vm::config::{VmConfig, VmConfigFile};
use avocado_vm::control;
use avocado_vm::dir::{StateDir, StateFile};
use avocado_vm::launch::{IdleChange, IdleSettings};
use avocado_vm::status::VmState;

use super::{failure, machine};
use crate::failure::Result;
use crate::session::Session;

/// The keys that count from the next start.
const FROM_NEXT_START: [&str; 2] = ["runtime", "network"];

/// Lets a change of `key` count: for a running VM at once where that is possible. Says from when it
/// does otherwise.
pub(super) fn tell_effect(session: &Session, dir: &StateDir, key: &str) -> Result<()> {
    let section = key.split('.').next().unwrap_or_default();
    let output = &session.output;
    if FROM_NEXT_START.contains(&section) {
        if is_there(dir) {
            output.emit(Event::info(format!(
                "`{key}` counts from the next start of the VM: `avocado vm restart`"
            )));
        }
        return Ok(());
    }
    let file = VmConfigFile::load(&dir.file(StateFile::Config)).map_err(failure)?;
    let mut change = idle_change(key, file.config());
    if change.hibernate_after_secs.is_some()
        && session.environment.vm_idle_hibernate_secs()?.is_some()
    {
        change.hibernate_after_secs = None;
        output.emit(Event::warning(
            "AVOCADO_VM_IDLE_HIBERNATE_SECS is set, and goes before idle.hibernate_after_secs",
        ));
    }
    // The next start of a VM whose memory is saved begins with it.
    if change == IdleChange::default() || !has_supervisor(dir) {
        return Ok(());
    }
    match control::configure(dir, &change) {
        Ok(()) => {
            // A start as the last one begins with it.
            if let Some(mut launch) = machine::previous(dir) {
                launch.idle = launch.idle.changed(&change);
                dir.write_json(StateFile::Launch, &launch)
                    .map_err(failure)?;
            }
            output.emit(Event::info(format!(
                "`{key}` counts for the running VM at once"
            )));
        }
        Err(error) => output.emit(Event::warning(format!(
            "`{key}` is set, and does not count for the running VM: {error}"
        ))),
    }
    Ok(())
}

/// Whether there is a VM for which a change may come too late.
fn is_there(dir: &StateDir) -> bool {
    has_supervisor(dir) || machine::is_saved(dir)
}

fn has_supervisor(dir: &StateDir) -> bool {
    machine::look(dir).is_ok_and(|status| status.state != VmState::Stopped)
}

/// The change of the idle settings that a change of `key`, or of a map of keys, brings.
fn idle_change(key: &str, config: &VmConfig) -> IdleChange {
    let default = IdleSettings::default();
    let mut change = IdleChange::default();
    let whole = key == "idle";
    if whole || key == "idle.hibernate_after_secs" {
        let secs = config.hibernate_after_secs;
        change.hibernate_after_secs = Some(secs.unwrap_or(default.hibernate_after_secs));
    }
    if whole || key == "idle.release_memory_after_secs" {
        let secs = config.release_memory_after_secs;
        change.release_memory_after_secs = Some(secs.unwrap_or(default.release_memory_after_secs));
    }
    if whole || key == "idle.silent_connection_secs" {
        let secs = config.silent_connection_secs;
        change.silent_connection_secs = Some(secs.unwrap_or(default.silent_connection_secs));
    }
    if whole || key == "idle.containers_keep_awake" {
        let flag = config.containers_keep_awake;
        change.containers_keep_awake = Some(flag.unwrap_or(default.containers_keep_awake));
    }
    change
}
