//! `avocado vm config`.

use avocado_events::{Event, Sink};
use avocado_vm::config::{KEYS, VmConfigFile};
use avocado_vm::dir::StateFile;
use clap::Subcommand;
use serde_json::{Value, json};

use super::{failure, state_dir};
use crate::failure::Result;
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the value of a key; nothing where it is not set
    Get {
        /// Such as idle.hibernate_after_secs
        key: String,
    },
    /// Set a key; several values make a list
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
    /// Print everything that is set
    List,
}

/// How near a key has to be to be meant (Jaro-Winkler).
const NEAR: f64 = 0.85;

pub(super) fn run(session: &Session, command: &ConfigCommand) -> Result<()> {
    let path = state_dir(session)?.file(StateFile::Config);
    let output = &session.output;
    match command {
        ConfigCommand::Get { key } => {
            let file = VmConfigFile::load(&path).map_err(failure)?;
            let value = file.get(key).map_err(failure)?;
            output.answer(&json!({"key": key, "value": value}), || {
                value.map(lines).unwrap_or_default()
            })
        }
        ConfigCommand::Set { key, values } => {
            let value = VmConfigFile::set(&path, key, values).map_err(failure)?;
            if !KEYS.contains(&key.as_str()) {
                output.emit(unknown(key));
            }
            output.answer(&json!({"key": key, "value": value}), String::new)?;
            Ok(())
        }
        ConfigCommand::Unset { key } => {
            let removed = VmConfigFile::unset(&path, key).map_err(failure)?;
            output.answer(&json!({"key": key, "removed": removed}), String::new)
        }
        ConfigCommand::List => {
            let file = VmConfigFile::load(&path).map_err(failure)?;
            output.answer(file.tree(), || {
                let line = |(key, value): (String, &Value)| format!("{key} = {}\n", word(value));
                file.list().into_iter().map(line).collect()
            })
        }
    }
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
