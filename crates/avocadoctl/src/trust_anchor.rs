//! The root that a device trusts: its trust anchor, or what has replaced it.

use std::collections::BTreeMap;
use std::path::Path;

use avocado_device::{Device, DeviceError, ForgetLevel};
use avocado_events::Silent;
use serde::Deserialize;

use crate::failure::{Failure, chain};
use crate::interface::{RootAuthority, TrustedKey, TrustedRepository};

/// The roles, the most powerful first.
const ROLES: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

/// The root that a device trusts, and what it knows of each repository; none where it has no trust
/// anchor.
pub(crate) fn show(device: &Device) -> Result<Option<RootAuthority>, Failure> {
    let failed = |error: DeviceError| Failure::ParseFailed {
        reason: chain(&error),
    };
    let Some(root) = device.trusted_root().map_err(failed)? else {
        return Ok(None);
    };
    // Of the two only the anchor can be anything else than a root: what replaces it was verified.
    let root = read(&root, &device.paths().base.join("metadata/root.json"))?;
    let all = device.repositories().map_err(failed)?;
    let all: Vec<_> = all.into_iter().map(TrustedRepository::from).collect();
    Ok(Some(RootAuthority {
        repositories: (!all.is_empty()).then_some(all),
        ..root
    }))
}

/// Forgets what is trusted of a repository; whether there was anything.
pub(crate) fn forget(device: &Device, url: &str, what: ForgetLevel) -> Result<bool, Failure> {
    device
        .forget_repository(url, what, &Silent)
        .map_err(|error| Failure::ForgetFailed {
            reason: chain(&error),
        })
}

/// What a root says. An error names `path`.
fn read(root: &[u8], path: &Path) -> Result<RootAuthority, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::ParseFailed {
        reason: format!("{}: {why}", path.display()),
    };
    let envelope: Envelope = serde_json::from_slice(root).map_err(|e| failed(&e))?;
    if envelope.signed.kind != "root" {
        return Err(failed(&"it is not root metadata"));
    }
    Ok(envelope.signed.into())
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
    use avocado_device::{DeviceConfig, DevicePaths};

    use super::*;

    fn with(root: &str) -> Result<Option<RootAuthority>, Failure> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("metadata")).unwrap();
        std::fs::write(dir.path().join("metadata/root.json"), root).unwrap();
        show(&device(dir.path()))
    }

    fn device(base: &Path) -> Device {
        Device::with_paths(DeviceConfig::default(), DevicePaths::new(base))
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
        assert_eq!(show(&device(dir.path())).unwrap(), None);
        // More than is read of one.
        let long = " ".repeat((1 << 20) + 1);
        for bad in [
            "",
            "{}",
            "[1]",
            r#"{"signed": {"_type": "targets", "version": 1, "expires": "x", "keys": {}, "roles": {}}}"#,
            r#"{"signed": {"_type": "root", "version": "1", "expires": "x", "keys": {}, "roles": {}}}"#,
            &long,
        ] {
            let error = with(bad).unwrap_err();
            assert!(matches!(error, Failure::ParseFailed { .. }), "{error:?}");
        }
    }
}
