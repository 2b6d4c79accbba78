//! The trust anchor as it lies in the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use avocado_device::{Device, Forget};
use avocado_events::Silent;
use serde::Deserialize;

use crate::declared::{Declared, ROOT_AUTHORITY};
use crate::failure::chain;
use crate::model::{RootAuthority, TrustedKey, TrustedRepository};

/// The largest trust anchor that is read, in bytes; the same as when it is used.
const LIMIT: u64 = 1 << 20;

/// The roles, the most powerful first.
const ROLES: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

/// The trust anchor of a device, and what is trusted of each repository; none when there is none.
pub(crate) fn show(device: &Device) -> Result<Option<RootAuthority>, Declared> {
    let Some(anchor) = read(&device.paths().base)? else {
        return Ok(None);
    };
    let all = device.repositories().map_err(|error| {
        Declared::new(ROOT_AUTHORITY, "ParseFailed").with("reason", chain(&error))
    })?;
    let all: Vec<_> = all.into_iter().map(TrustedRepository::from).collect();
    Ok(Some(RootAuthority {
        repositories: (!all.is_empty()).then_some(all),
        ..anchor
    }))
}

/// Forgets what is trusted of a repository; whether there was anything.
pub(crate) fn forget(device: &Device, url: &str, what: Forget) -> Result<bool, Declared> {
    device
        .forget_repository(url, what, &Silent)
        .map_err(|error| {
            Declared::new(ROOT_AUTHORITY, "ForgetFailed").with("reason", chain(&error))
        })
}

/// The trust anchor of the store at `base`; none when there is none.
fn read(base: &Path) -> Result<Option<RootAuthority>, Declared> {
    let path = base.join("metadata/root.json");
    let failed = |why: &dyn std::fmt::Display| {
        let reason = format!("{}: {why}", path.display());
        Declared::new(ROOT_AUTHORITY, "ParseFailed").with("reason", reason)
    };
    let mut bytes = Vec::new();
    match File::open(&path).and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&e)),
        Ok(_) if bytes.len() as u64 > LIMIT => return Err(failed(&"it is larger than 1 MiB")),
        Ok(_) => {}
    }
    let envelope: Envelope = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
    if envelope.signed.kind != "root" {
        return Err(failed(&"it is not root metadata"));
    }
    Ok(Some(envelope.signed.into()))
}

#[derive(Deserialize)]
struct Envelope {
    signed: Root,
}

#[derive(Deserialize)]
struct Root {
    #[serde(rename = "_type")]
    kind: String,
    version: i64,
    expires: String,
    keys: BTreeMap<String, Key>,
    roles: BTreeMap<String, Role>,
}

#[derive(Deserialize)]
struct Key {
    keytype: String,
}

#[derive(Deserialize)]
struct Role {
    keyids: Vec<String>,
}

impl From<Root> for RootAuthority {
    fn from(root: Root) -> Self {
        let roles_of = |id: &String| {
            let signs = |role: &&str| root.roles.get(*role).is_some_and(|r| r.keyids.contains(id));
            let roles = ROLES.into_iter().filter(signs);
            roles.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut keys: Vec<_> = root
            .keys
            .iter()
            .map(|(id, key)| TrustedKey {
                key_id: id.clone(),
                key_type: key.keytype.clone(),
                roles: roles_of(id),
            })
            .collect();
        // Those of the most powerful role first, those without a role last.
        keys.sort_by_key(|key| {
            let first = key.roles.first();
            let at = ROLES
                .iter()
                .position(|role| Some(*role) == first.map(String::as_str));
            at.unwrap_or(ROLES.len())
        });
        RootAuthority {
            version: root.version,
            expires: root.expires,
            keys,
            repositories: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(root: &str) -> Result<Option<RootAuthority>, Declared> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("metadata")).unwrap();
        std::fs::write(dir.path().join("metadata/root.json"), root).unwrap();
        read(dir.path())
    }

    #[test]
    fn keys_come_with_their_roles() {
        let root = r#"{"signatures": [], "signed": {"_type": "root", "version": 3,
            "expires": "2027-01-01T00:00:00Z", "spec_version": "1.0.0",
            "keys": {"aa": {"keytype": "ed25519", "scheme": "ed25519", "keyval": {}},
                     "bb": {"keytype": "ecdsa"}, "cc": {"keytype": "rsa"}},
            "roles": {"root": {"keyids": ["bb"], "threshold": 1},
                      "timestamp": {"keyids": ["bb", "cc"], "threshold": 1},
                      "mirrors": {"keyids": ["aa"], "threshold": 1}}}}"#;
        let found = with(root).unwrap().unwrap();
        assert_eq!(
            (found.version, found.expires.as_str()),
            (3, "2027-01-01T00:00:00Z")
        );
        let keys: Vec<_> = found
            .keys
            .iter()
            .map(|k| (k.key_id.as_str(), k.key_type.as_str(), k.roles.join(" ")))
            .collect();
        assert_eq!(
            keys,
            [
                ("bb", "ecdsa", "root timestamp".to_owned()),
                ("cc", "rsa", "timestamp".to_owned()),
                ("aa", "ed25519", String::new()),
            ]
        );
    }

    #[test]
    fn what_is_no_trust_anchor_is_said_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), Ok(None));
        let long = " ".repeat(LIMIT as usize + 1);
        for bad in [
            "",
            "{}",
            "[1]",
            r#"{"signed": {"_type": "targets", "version": 1, "expires": "x", "keys": {}, "roles": {}}}"#,
            r#"{"signed": {"_type": "root", "version": "1", "expires": "x", "keys": {}, "roles": {}}}"#,
            &long,
        ] {
            let error = with(bad).unwrap_err();
            assert_eq!(error.name, "ParseFailed", "{error:?}");
        }
    }
}
