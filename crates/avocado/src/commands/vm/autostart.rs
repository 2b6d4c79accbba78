//! `avocado vm autostart`: a VM that starts when its user logs in.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use avocado_fs::WriteOptions;
use avocado_vm::autostart_unit::{unit_name, unit_text};
use avocado_vm::named::VmName;
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use super::{machine, state_dir};
use crate::failure::{Context, Failure, Result};
use crate::output::WorkSummary;
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum AutostartCommand {
    /// Start the VM at each login, as it was started last, and let its guest sleep then
    Enable,
    /// Start the VM at no login any more
    Disable,
    /// Show whether the VM starts at each login
    Status,
}

#[derive(Debug, Serialize)]
struct AutostartStatus {
    version: u32,
    name: String,
    enabled: bool,
    unit: String,
    path: PathBuf,
}

pub(super) fn run(session: &Session, command: &AutostartCommand) -> Result<()> {
    if session.environment.vm_stated_dir()?.is_some() {
        return Err(
            Failure::usage("a VM of AVOCADO_VM_STATE_DIR cannot start at each login")
                .hint("one with a name can: unset the variable, and use --name"),
        );
    }
    let unit = AutostartUnit::of(
        session,
        &session.environment.chosen_vm(session.vm_name.get())?,
    )?;
    match command {
        AutostartCommand::Enable => enable(session, &unit),
        AutostartCommand::Disable => {
            let was_there = unit.disable()?;
            let closing = match (unit.remove_inactive()?, was_there) {
                (false, _) => {
                    "the VM does not start at login any more; its unit stays while systemd has it active, to shut \
                     the guest down at the end of the session. Once it is inactive, this command removes it"
                }
                (true, true) => "the VM does not start at login any more",
                (true, false) => "the VM did not start at login",
            };
            complete(session, &unit, closing)
        }
        AutostartCommand::Status => {
            let status = AutostartStatus {
                version: 1,
                name: unit.vm.as_str().to_owned(),
                enabled: unit.is_enabled(),
                unit: unit.name.clone(),
                path: unit.path.clone(),
            };
            session.output.answer(&status, || {
                let whether = if status.enabled {
                    "starts"
                } else {
                    "does not start"
                };
                format!("the VM `{}` {whether} at login\n", status.name)
            })
        }
    }
}

/// The VM is deleted, and starts no more. Says what is left to do.
pub(super) fn forget(session: &Session, vm: &VmName) -> Result<Option<String>> {
    let unit = AutostartUnit::of(session, vm)?;
    if unit.disable()? && unit.may_be_active()? {
        // There is no guest any more that its end could shut down. Where that fails, its file stays.
        let _ = systemctl(&["stop", &unit.name]);
    }
    let is_gone = unit.remove_inactive()?;
    Ok((!is_gone).then(|| {
        format!(
            "systemd may have its unit active still: `avocado vm --name {} autostart disable` removes it later",
            vm.as_str()
        )
    }))
}

fn enable(session: &Session, unit: &AutostartUnit) -> Result<()> {
    let dir = state_dir(session)?;
    if machine::previous(&dir).is_none() {
        return Err(Failure::new("the VM was never started")
            .hint("`avocado vm start` first: what it is told counts at each login too"));
    }
    // Before anything is written.
    systemctl(&["show-environment"])?;
    let program = session.environment.exe()?;
    let path = PathBuf::from(session.environment.search_path());
    let text = unit_text(&unit.vm, &program, &path).map_err(|error| {
        Failure::new(error.to_string()).hint("install avocado in a directory of a plain name")
    })?;
    let before = fs::read(&unit.path).ok();
    if let Some(parent) = unit.path.parent() {
        fs::create_dir_all(parent).context(|| format!("cannot make {}", parent.display()))?;
    }
    write(&unit.path, text.as_bytes())?;
    let enabled = systemctl(&["daemon-reload"]).and_then(|()| systemctl(&["enable", &unit.name]));
    if let Err(failure) = enabled {
        match before {
            Some(before) => write(&unit.path, &before)?,
            // It was not there, so nothing was started by it.
            None => {
                unit.disable()?;
                unit.remove()?;
            }
        }
        return Err(failure);
    }
    complete(
        session,
        unit,
        "the VM starts at each login, and its guest sleeps then until it is used",
    )
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = WriteOptions::new().mode(0o644).write(path, bytes);
    written.map_err(|error| Failure::from_error(&error))
}

fn complete(session: &Session, unit: &AutostartUnit, closing: &str) -> Result<()> {
    let mut summary = WorkSummary::default();
    summary.fields.insert("unit".into(), json!(unit.name));
    summary.fields.insert("path".into(), json!(unit.path));
    summary
        .fields
        .insert("enabled".into(), json!(unit.is_enabled()));
    summary.closing = closing.into();
    session.output.complete(summary)
}

/// The unit of a VM, whether it is there or not.
struct AutostartUnit {
    vm: VmName,
    name: String,
    path: PathBuf,
    /// By which systemd takes it for enabled.
    link: PathBuf,
}

impl AutostartUnit {
    fn of(session: &Session, vm: &VmName) -> Result<AutostartUnit> {
        let place = session.environment.user_config_dir().ok_or_else(|| {
            Failure::new("there is no place for what the user configures")
                .hint("set XDG_CONFIG_HOME or HOME to a directory")
        })?;
        let place = place.join("systemd/user");
        let name = unit_name(vm);
        Ok(AutostartUnit {
            vm: vm.clone(),
            path: place.join(&name),
            link: place.join("default.target.wants").join(&name),
            name,
        })
    }

    fn is_enabled(&self) -> bool {
        self.path.is_file() && self.link.symlink_metadata().is_ok()
    }

    /// Ends that it is started at login, with or without systemd. Says whether there was such a unit.
    fn disable(&self) -> Result<bool> {
        let was_there = self.path.is_file();
        Ok(remove_file(&self.link)? || was_there)
    }

    /// Removes its file, unless it may be active: systemd would forget how it is ended, and kill
    /// the guest at the end of the session. Says whether there is none any more.
    fn remove_inactive(&self) -> Result<bool> {
        if !self.path.is_file() {
            return Ok(true);
        }
        let may_be_active = self.may_be_active()?;
        if !may_be_active {
            remove_file(&self.path)?;
        }
        reload();
        Ok(!may_be_active)
    }

    fn remove(&self) -> Result<()> {
        if remove_file(&self.path)? {
            reload();
        }
        Ok(())
    }

    /// Whether systemd does not say that it is inactive: it is active, or begins or ceases to be, or
    /// systemd cannot be asked from here.
    fn may_be_active(&self) -> Result<bool> {
        let mut ask = Command::new("systemctl");
        ask.args(["--user", "is-active", &self.name]);
        match ask.output() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            output => {
                let output = output.context(|| "cannot run systemctl".into())?;
                let state = output.stdout.trim_ascii();
                Ok(![&b"inactive"[..], b"failed", b"unknown"].contains(&state))
            }
        }
    }
}

/// Says whether it was there.
fn remove_file(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => {
            Err(Failure::new(format!("cannot remove {}", path.display())).because(&error))
        }
    }
}

/// Lets systemd look at its units again. Where there is none for the user, it has nothing to forget.
fn reload() {
    let _ = systemctl(&["daemon-reload"]);
}

/// Asks the systemd of the user.
fn systemctl(arguments: &[&str]) -> Result<()> {
    const NONE: &str = "there is no systemd that starts programs for this user";
    const INSTEAD: &str = "start the VM by what this machine has for that: `avocado vm start`";
    let output = Command::new("systemctl")
        .arg("--user")
        .args(arguments)
        .output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Failure::new(NONE).hint(INSTEAD));
        }
        output => output.context(|| "cannot run systemctl".into())?,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = avocado_text::strip(String::from_utf8_lossy(&output.stderr).trim());
    Err(match arguments {
        ["show-environment"] => Failure::new(format!("{NONE}: {said}")).hint(INSTEAD),
        _ => Failure::new(format!(
            "`systemctl --user {}` failed: {said}",
            arguments.join(" ")
        )),
    })
}
