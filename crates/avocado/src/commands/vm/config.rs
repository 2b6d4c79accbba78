//! `avocado vm config`.

use avocado_events::{Event, Sink};
use avocado_vm::config::{ConfigFile, KEYS};
use avocado_vm::dir::File;
use serde_json::{Value, json};

use super::{Session, failure, state_dir};
use crate::cli::VmConfigCommand;
use crate::failure::Result;

/// How near a key has to be to be meant (Jaro-Winkler).
const NEAR: f64 = 0.85;

pub(super) fn run(session: &Session, command: &VmConfigCommand) -> Result<()> {
    let path = state_dir(session)?.file(File::Config);
    let output = &session.output;
    match command {
        VmConfigCommand::Get { key } => {
            let file = ConfigFile::load(&path).map_err(failure)?;
            let value = file.get(key).map_err(failure)?;
            output.answer(&json!({"key": key, "value": value}), || {
                value.map(lines).unwrap_or_default()
            })
        }
        VmConfigCommand::Set { key, values } => {
            let value = ConfigFile::set(&path, key, values).map_err(failure)?;
            if !KEYS.contains(&key.as_str()) {
                output.emit(unknown(key));
            }
            output.answer(&json!({"key": key, "value": value}), String::new)?;
            Ok(())
        }
        VmConfigCommand::Unset { key } => {
            let removed = ConfigFile::unset(&path, key).map_err(failure)?;
            output.answer(&json!({"key": key, "removed": removed}), String::new)
        }
        VmConfigCommand::List => {
            let file = ConfigFile::load(&path).map_err(failure)?;
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
