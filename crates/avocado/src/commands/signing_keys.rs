//! `avocado signing-keys`.

use avocado_text::{escape, table};
use avocado_tuf::Keyring;
use avocado_tuf::keyring::{KeyringEntry, KeyringError};
use clap::Subcommand;
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum SigningKeysCommand {
    /// Create an ed25519 key
    Create {
        /// The name of the key
        #[arg(default_value = "dev-signing-key")]
        name: String,
    },
    /// List the keys
    List,
    /// Remove a key and its files
    Remove {
        /// The name or the key id
        name: String,
    },
}

/// A key, as `--output json` shows it.
#[derive(Serialize)]
struct KeyDocument<'a> {
    name: &'a str,
    keyid: &'a str,
    algorithm: &'a str,
    created_at: &'a str,
    uri: &'a str,
}

impl<'a> From<&'a KeyringEntry> for KeyDocument<'a> {
    fn from(entry: &'a KeyringEntry) -> Self {
        KeyDocument {
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
            output.answer(&KeyDocument::from(&entry), || {
                format!("created {}\nkey id  {}\n", entry.name, entry.key_id)
            })
        }
        SigningKeysCommand::List => {
            let entries = keyring.list().map_err(failure)?;
            let shown: Vec<KeyDocument<'_>> = entries.iter().map(KeyDocument::from).collect();
            output.answer(&shown, || {
                let row = |key: &KeyDocument<'_>| {
                    [key.name, key.algorithm, key.created_at, key.keyid].map(str::to_owned)
                };
                let rows = shown.iter().map(row);
                table(["NAME", "ALGORITHM", "CREATED", "KEY ID"], rows, None)
            })
        }
        SigningKeysCommand::Remove { name } => {
            let entry = keyring.remove(name).map_err(failure)?;
            output.answer(&KeyDocument::from(&entry), || {
                format!("removed {}\n", escape(&entry.name))
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
