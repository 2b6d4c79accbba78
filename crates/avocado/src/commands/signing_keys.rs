//! `avocado signing-keys`.

use avocado_tuf::Keyring;
use avocado_tuf::keyring::{Entry, KeyringError};
use serde::Serialize;

use super::Session;
use crate::cli::SigningKeysCommand;
use crate::failure::{Failure, Result};
use crate::output::text;

/// A key, as `--output json` shows it.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    keyid: &'a str,
    algorithm: &'a str,
    created_at: &'a str,
    uri: &'a str,
}

impl<'a> From<&'a Entry> for Shown<'a> {
    fn from(entry: &'a Entry) -> Self {
        Shown {
            name: &entry.name,
            keyid: &entry.key_id,
            algorithm: &entry.algorithm,
            created_at: &entry.created_at,
            uri: &entry.uri,
        }
    }
}

pub(super) fn run(session: &Session, command: &SigningKeysCommand) -> Result<()> {
    let keyring = Keyring::new(session.environment.signing_keys()?);
    let output = &session.output;
    match command {
        SigningKeysCommand::Create { name } => {
            let entry = keyring
                .create(name, session.environment.now())
                .map_err(failure)?;
            output.answer(&Shown::from(&entry), || {
                format!("created {}\nkey id  {}\n", entry.name, entry.key_id)
            })
        }
        SigningKeysCommand::List => {
            let entries = keyring.list().map_err(failure)?;
            let shown: Vec<Shown<'_>> = entries.iter().map(Shown::from).collect();
            output.answer(&shown, || {
                let row = |key: &Shown<'_>| {
                    [key.name, key.algorithm, key.created_at, key.keyid]
                        .map(text::plain)
                        .to_vec()
                };
                let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
                text::table(&["NAME", "ALGORITHM", "CREATED", "KEY ID"], &rows)
            })
        }
        SigningKeysCommand::Remove { name } => {
            let entry = keyring.remove(name).map_err(failure)?;
            output.answer(&Shown::from(&entry), || {
                format!("removed {}\n", text::plain(&entry.name))
            })
        }
    }
}

fn failure(error: KeyringError) -> Failure {
    let hint = match &error {
        KeyringError::Exists(_) => Some("choose another name, or remove the key first"),
        KeyringError::Unknown(_) => Some("see `avocado signing-keys list`"),
        _ => None,
    };
    Failure::from_error(&error).maybe_hint(hint)
}
