//! Whose results are used, and who signs those that are made here.

use std::path::PathBuf;

use avocado_cache::TrustedKeys;
use avocado_events::{Event, Sink};
use avocado_project::SharedCache;
use avocado_tuf::SigningKey;
use avocado_tuf::keyring::{Keyring, KeyringEntry};

use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::keys::DEVELOPMENT_KEY;

/// How many digits the id of a key has.
const KEY_ID: usize = 64;

pub(super) struct CacheKeys {
    pub(super) trusted: TrustedKeys,
    pub(super) signer: Option<SigningKey>,
}

/// The keys of a cache. Where none is stated as trusted, those of the user's own registry are, and a
/// development key signs.
pub(super) fn keys(
    context: &BuildContext<'_>,
    cache: &SharedCache,
    sink: &dyn Sink,
) -> Result<CacheKeys, BuildError> {
    let options = context.options;
    let own: Vec<&PathBuf> = options
        .keyring
        .iter()
        .chain(&options.owner_keyring)
        .collect();
    let find = |name: &str| -> Result<Option<(Keyring, KeyringEntry)>, BuildError> {
        for directory in &own {
            let keyring = Keyring::new(*directory);
            if let Some(entry) = keyring.find(name)? {
                return Ok(Some((keyring, entry)));
            }
        }
        Ok(None)
    };
    let mut trusted = Vec::new();
    let mut signing = None;
    for key in &cache.trusted_keys {
        let found = find(key)?;
        let is_id = key.len() == KEY_ID && key.bytes().all(|c| c.is_ascii_hexdigit());
        match &found {
            Some((_, entry)) => trusted.push(entry.key_id.clone()),
            None if is_id => trusted.push(key.clone()),
            None => sink.emit(Event::warning(format!(
                "`cache.trusted_keys` has `{key}`, which is not in the registry of signing keys of this \
                 machine: write its id, which says which key it is everywhere"
            ))),
        }
        signing = signing.or(found);
    }
    if cache.trusted_keys.is_empty() {
        for directory in &own {
            let entries = Keyring::new(*directory).list()?;
            trusted.extend(entries.into_iter().map(|entry| entry.key_id));
        }
        if cache.push {
            signing = match find(DEVELOPMENT_KEY)? {
                None => create(context, sink)?,
                found => found,
            };
            trusted.extend(signing.iter().map(|(_, entry)| entry.key_id.clone()));
        }
    }
    let signer = match signing.filter(|_| cache.push) {
        Some((keyring, entry)) => {
            let warn = |warning: avocado_fs::OpenFileWarning| {
                sink.emit(Event::warning(warning.to_string()));
            };
            Some(keyring.load(&entry, &warn)?)
        }
        None if cache.push => {
            sink.emit(Event::info(
                "nothing that is made here goes to the cache: none of `cache.trusted_keys` is in the \
                 registry of signing keys of this machine",
            ));
            None
        }
        None => None,
    };
    Ok(CacheKeys {
        trusted: trusted.into_iter().collect(),
        signer,
    })
}

fn create(
    context: &BuildContext<'_>,
    sink: &dyn Sink,
) -> Result<Option<(Keyring, KeyringEntry)>, BuildError> {
    let Some(directory) = &context.options.keyring else {
        return Ok(None);
    };
    let keyring = Keyring::new(directory);
    let entry = keyring.create(DEVELOPMENT_KEY, context.options.now)?;
    sink.emit(Event::info(format!(
        "`cache` names no trusted key: created `{DEVELOPMENT_KEY}` in {}, which signs what goes to the \
         cache",
        directory.display()
    )));
    Ok(Some((keyring, entry)))
}
