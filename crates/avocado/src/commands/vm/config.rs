//! `avocado vm config`.

use avocado_events::{Event, Sink};
use avocado_vm::config::{KEYS, VmConfigFile, default_of};
use avocado_vm::dir::StateFile;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::config_effect::tell_effect;
use super::{failure, state_dir};
use crate::failure::Result;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ConfigCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the value of a key; nothing where it is not set
    Get {
        /// Such as idle.hibernate_after_secs
        key: String,
    },
    /// Set a key; several values make a list
    ///
    /// Idle settings count for a running VM at once. What counts from the next start is told.
    Set {
        /// Such as idle.hibernate_after_secs
        key: String,
        /// A number, true or false, a text, or a list; one that begins with a dash comes after `--`
        #[arg(required = true)]
        values: Vec<String>,
    },
    /// Forget a key
    Unset {
        /// Such as idle.hibernate_after_secs
        key: String,
    },
    /// Print everything that is set, and what counts where nothing is
    List,
}

/// How near a key has to be to be meant (Jaro-Winkler).
const NEAR: f64 = 0.85;

pub(super) fn run(session: &Session, args: &ConfigArgs) -> Result<()> {
    let dir = state_dir(session)?;
    let path = dir.file(StateFile::Config);
    let output = &session.output;
    match args.command.as_ref().unwrap_or(&ConfigCommand::List) {
        ConfigCommand::Get { key } => {
            let file = VmConfigFile::load(&path).map_err(failure)?;
            let value = file.get(key).map_err(failure)?;
            let mut answer = json!({"key": key, "value": value});
            if let (None, Some(default)) = (value, default_of(key)) {
                answer["default"] = default;
            }
            output.answer(&answer, || value.map(lines).unwrap_or_default())
        }
        ConfigCommand::Set { key, values } => {
            let value = VmConfigFile::set(&path, key, values).map_err(failure)?;
            if !KEYS.contains(&key.as_str()) {
                output.emit(unknown(key));
            }
            tell_effect(session, &dir, key)?;
            output.answer(&json!({"key": key, "value": value}), String::new)?;
            Ok(())
        }
        ConfigCommand::Unset { key } => {
            let removed = VmConfigFile::unset(&path, key).map_err(failure)?;
            if removed {
                tell_effect(session, &dir, key)?;
            }
            output.answer(&json!({"key": key, "removed": removed}), String::new)
        }
        ConfigCommand::List => {
            let file = VmConfigFile::load(&path).map_err(failure)?;
            output.answer(file.tree(), || listing(&file))
        }
    }
}

/// Every key that is set or known, a line for each, and which values are defaults.
fn listing(file: &VmConfigFile) -> String {
    let mut values = file.list();
    let set: Vec<String> = values.iter().map(|(key, _)| key.clone()).collect();
    let is_set = |key: &str| set.iter().any(|set| set == key);
    let defaults = KEYS.iter().filter(|key| !is_set(key));
    let defaults: Vec<_> = defaults.map(|key| (*key, default_of(key))).collect();
    let mut lines: Vec<String> = values
        .drain(..)
        .map(|(key, value)| format!("{key} = {}\n", word(value)))
        .collect();
    lines.extend(defaults.into_iter().map(|(key, value)| match value {
        Some(value) => format!("{key} = {} (default)\n", word(&value)),
        None => format!("{key} = (default: what the guest's network says)\n"),
    }));
    lines.sort();
    lines.concat()
}

/// A key that means nothing to this program may mean something to the desktop application.
fn unknown(key: &str) -> Event {
    let near = KEYS
        .iter()
        .map(|known| (strsim::jaro_winkler(key, known), known))
        .filter(|(nearness, _)| *nearness >= NEAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let hint = near.map(|(_, known)| format!("; did you mean `{known}`?"));
    Event::warning(format!(
        "`{key}` means nothing to this version of avocado{}",
        hint.unwrap_or_default()
    ))
}

/// A value for scripts: an item of a list on each line.
fn lines(value: &Value) -> String {
    match value {
        Value::Array(items) => items.iter().map(|item| word(item) + "\n").collect(),
        value => word(value) + "\n",
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
