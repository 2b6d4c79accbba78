//! Whose word counts.

use std::path::Path;

use avocado_fs::read_at_most;
#[cfg(target_os = "linux")]
use avocado_project::{Project, Runtime};
use avocado_tuf::{Keyring, PublicKey};

use crate::failure::{Failure, Result};
use crate::session::Session;

/// The longest file of a public key, in bytes.
const LONGEST: u64 = 4096;

/// The keys that a user names.
pub(super) fn named(
    session: &Session,
    names: &[String],
    project: Option<&Path>,
) -> Result<Vec<PublicKey>> {
    let keyrings = keyrings(session, project);
    names.iter().map(|name| one(name, &keyrings)).collect()
}

fn one(name: &str, keyrings: &[Keyring]) -> Result<PublicKey> {
    for keyring in keyrings {
        if let Some(key) = of_keyring(keyring, name)? {
            return Ok(key);
        }
    }
    let path = Path::new(name);
    if !path.is_file() {
        return Err(Failure::new(format!("there is no signing key `{name}`"))
            .hint("see `avocado signing-keys list`, or name the file `<keyid>.pub` of the key"));
    }
    let text = read_at_most(path, LONGEST).map_err(|e| Failure::from_error(&e))?;
    let text = String::from_utf8_lossy(&text);
    PublicKey::from_base64(&text).ok_or_else(|| {
        Failure::new(format!("{} is no public key", path.display())).hint(
            "it has to be as `avocado signing-keys create` writes it: the 32 bytes of an Ed25519 key in base64",
        )
    })
}

/// The key that signs a runtime: that of the user, or of the owner of the project.
#[cfg(target_os = "linux")]
pub(super) fn of_runtime(
    session: &Session,
    project: &Project,
    runtime: &Runtime,
) -> Result<Vec<PublicKey>> {
    let wanted = runtime.signing_key.as_deref();
    let name = wanted.map_or(avocado_build::DEVELOPMENT_KEY, |wanted| {
        let mut known = project.signing_keys.iter();
        let found = known.find(|(name, _)| name == wanted);
        found.map_or(wanted, |(_, in_registry)| in_registry)
    });
    let mut keys = Vec::new();
    for keyring in keyrings(session, Some(&project.src_dir)) {
        keys.extend(of_keyring(&keyring, name)?);
    }
    if keys.is_empty() {
        let runtime = &runtime.name;
        return Err(Failure::new(format!(
            "the signing key `{name}` of the runtime {runtime} is not among the signing keys of this machine"
        ))
        .hint("name the public half of it: --key FILE.pub"));
    }
    Ok(keys)
}

/// The name that a key has among the signing keys, or else its id there.
pub(super) fn name_of(session: &Session, key: &PublicKey) -> String {
    let id = avocado_manifest::Digest::of(key.as_bytes()).to_string();
    let entries = keyrings(session, None);
    let found = entries
        .iter()
        .find_map(|keyring| keyring.find(&id).ok().flatten());
    found.map_or(id, |entry| entry.name)
}

fn of_keyring(keyring: &Keyring, name: &str) -> Result<Option<PublicKey>> {
    let entry = keyring.find(name).map_err(|e| Failure::from_error(&e))?;
    let key = entry.map(|entry| keyring.public_key(&entry));
    key.transpose().map_err(|e| Failure::from_error(&e))
}

fn keyrings(session: &Session, project: Option<&Path>) -> Vec<Keyring> {
    let environment = &session.environment;
    let of_owner = project.and_then(|project| environment.signing_keys_of_owner(project));
    let places = environment.signing_keys().ok().into_iter().chain(of_owner);
    places.map(Keyring::new).collect()
}
