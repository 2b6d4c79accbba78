//! Metadata that expires is signed anew before a device looks at it.

use std::fs;
use std::path::Path;

use avocado_events::{Event, Sink};
use avocado_fs::OpenFileWarning;
use avocado_manifest::Digest;
use avocado_tuf::{Keyring, PublicKey, SigningKey, writer};
use jiff::Timestamp;
use serde_json::Value;

use crate::failure::{Context, Failure, Result};

/// Renews what is about to expire in `repository`. Without the key that signed it, it is served
/// as it is: the device decides.
pub(super) fn renew(
    repository: &Path,
    keyrings: &[Keyring],
    now: Timestamp,
    sink: &dyn Sink,
) -> Result<()> {
    let Some(key) = signer(repository, keyrings, sink)? else {
        let places = keyrings.iter().map(|keyring| keyring.directory().display());
        let places: Vec<String> = places.map(|place| place.to_string()).collect();
        sink.emit(Event::warning(format!(
            "the key that signed {} is not in {}; its metadata is not renewed",
            repository.display(),
            places.join(" or ")
        )));
        return Ok(());
    };
    let renewed = writer::renew(repository, &key, now)
        .map_err(|e| Failure::from_error(&e).hint("`avocado build` publishes it again"))?;
    if renewed {
        sink.emit(Event::info("renewed the metadata of the repository"));
    }
    Ok(())
}

/// The key of the repository's timestamp role, where a registry has it.
fn signer(repository: &Path, keyrings: &[Keyring], sink: &dyn Sink) -> Result<Option<SigningKey>> {
    let path = repository.join("metadata/root.json");
    let bytes = fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
    let root: Value =
        serde_json::from_slice(&bytes).context(|| format!("cannot read {}", path.display()))?;
    let Some(public) = timestamp_key(&root) else {
        return Err(Failure::new(format!(
            "{} names no key that can be used",
            path.display()
        )));
    };
    // The registry's key id is the digest of the raw public key, not the id in the metadata.
    let id = Digest::of(public.as_bytes()).to_string();
    let warn = |warning: OpenFileWarning| sink.emit(Event::warning(warning.to_string()));
    for keyring in keyrings {
        let entry = keyring.find(&id).map_err(|e| Failure::from_error(&e))?;
        if let Some(entry) = entry {
            let key = keyring.load(&entry, &warn);
            return key.map(Some).map_err(|e| Failure::from_error(&e));
        }
    }
    Ok(None)
}

fn timestamp_key(root: &Value) -> Option<PublicKey> {
    let id = root.pointer("/signed/roles/timestamp/keyids/0")?.as_str()?;
    PublicKey::from_tuf(root.pointer("/signed/keys")?.get(id)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use avocado_events::Silent;
    use std::sync::Mutex;

    #[test]
    fn the_signer_is_found_by_the_root_and_renews() {
        let dir = tempfile::tempdir().unwrap();
        let published: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
        let keyring = Keyring::new(dir.path().join("keys"));
        keyring.create("other", published).unwrap();
        let entry = keyring.create("mine", published).unwrap();
        let key = keyring.load(&entry, &|_| {}).unwrap();
        let repository = dir.path().join("repository");
        let manifest = dir.path().join("manifest.json");
        fs::write(&manifest, "{}").unwrap();
        writer::publish(&writer::Publication {
            directory: &repository,
            signers: writer::RoleSigners::one(&key),
            role: "runtime-dev",
            targets: &[writer::PublicationTarget {
                name: "manifest.json".into(),
                source: &manifest,
                digest: Digest::of(b"{}"),
                length: 2,
            }],
            now: published,
        })
        .unwrap();

        let none = Keyring::new(dir.path().join("none"));
        let keyrings = [none, keyring];
        let said = |keyrings: &[Keyring], now: &str| {
            let events = Mutex::new(Vec::new());
            let sink = |event: Event| events.lock().unwrap().push(event.message);
            renew(&repository, keyrings, now.parse().unwrap(), &sink).unwrap();
            events.into_inner().unwrap().join("\n")
        };
        assert_eq!(said(&keyrings, "2025-01-02T00:00:00Z"), "");
        let later = "2025-02-01T00:00:00Z";
        assert_eq!(
            said(&keyrings, later),
            "renewed the metadata of the repository"
        );
        assert_eq!(said(&keyrings, later), "");
        let stranger = [Keyring::new(dir.path().join("none"))];
        assert!(said(&stranger, later).contains("is not renewed"));

        fs::write(repository.join("metadata/root.json"), "{}").unwrap();
        assert!(signer(&repository, &keyrings, &Silent).is_err());
    }
}
