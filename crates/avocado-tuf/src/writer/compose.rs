//! The contents of each kind of metadata, and its signature.

use std::collections::BTreeMap;

use avocado_manifest::{Digest, canonical_json};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::WriterError;
use super::kinds::TargetKind;
use super::signer::{RoleSigners, Signer};
use crate::digests::hex;
use crate::keyring::seconds;
use crate::keys::PublicKey;

/// The version of the specification that the metadata follows.
const SPECIFICATION: &str = "1.0.31";

pub(super) const ROOT: MetadataLifetime = MetadataLifetime {
    days: 365,
    left: 30,
};
pub(super) const TARGETS: MetadataLifetime = MetadataLifetime {
    days: 5 * 365,
    left: 30,
};
pub(super) const SNAPSHOT: MetadataLifetime = MetadataLifetime { days: 90, left: 14 };
pub(super) const TIMESTAMP: MetadataLifetime = MetadataLifetime { days: 7, left: 1 };

/// How long metadata lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetadataLifetime {
    /// From signing to expiry, in days.
    days: i64,
    /// With no more than so many days left, it is time to sign anew.
    left: i64,
}

impl MetadataLifetime {
    fn end(self, now: Timestamp) -> Result<Timestamp, WriterError> {
        seconds(now)
            .checked_add(days(self.days))
            .map_err(|_| WriterError::Time)
    }

    /// Whether metadata that expires at `expires` has time left.
    pub(super) fn is_fresh(self, expires: Timestamp, now: Timestamp) -> bool {
        expires.duration_since(now) > days(self.left)
    }
}

fn days(n: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * n)
}

/// What a target is, apart from its name.
pub(super) fn target(length: u64, digest: Digest) -> Value {
    json!({ "hashes": { "sha256": digest }, "length": length })
}

/// What other metadata says about metadata.
pub(super) fn meta(version: u64, bytes: &[u8]) -> Value {
    json!({
        "hashes": { "sha256": Digest::of(bytes) },
        "length": bytes.len(),
        "version": version,
    })
}

pub(super) fn root(
    version: u64,
    signers: &RoleSigners<'_>,
    now: Timestamp,
) -> Result<Vec<u8>, WriterError> {
    let mut keys = Map::new();
    let mut roles = Map::new();
    for (role, signer) in [
        ("root", signers.root),
        ("snapshot", signers.snapshot),
        ("targets", signers.targets),
        ("timestamp", signers.timestamp),
    ] {
        let key = signer.public();
        let id = key.id()?;
        keys.insert(id.clone(), key.to_tuf()?);
        let role_keys = json!({ "keyids": [id], "threshold": 1 });
        roles.insert(role.to_owned(), role_keys);
    }
    let body = json!({ "consistent_snapshot": true, "keys": keys, "roles": roles });
    sign("root", version, ROOT, body, signers.root, now)
}

/// Targets metadata that only delegates: first to `role`, then to the roles in `others`, which
/// are kept as they were.
pub(super) fn delegator(
    version: u64,
    role: &str,
    others: Option<&Value>,
    signers: &RoleSigners<'_>,
    now: Timestamp,
) -> Result<Vec<u8>, WriterError> {
    let key = signers.delegated.public();
    let mut roles = vec![delegation(role, key)?];
    let kept = others.and_then(|d| d.get("roles")?.as_array());
    roles.extend(
        kept.into_iter()
            .flatten()
            .filter(|other| other.get("name").and_then(Value::as_str) != Some(role))
            .cloned(),
    );

    let mut keys = Map::new();
    let old = others.and_then(|d| d.get("keys")?.as_object());
    for id in roles
        .iter()
        .filter_map(|role| role.get("keyids")?.as_array())
        .flatten()
    {
        if let Some((id, value)) = id.as_str().and_then(|id| old?.get_key_value(id)) {
            keys.insert(id.clone(), value.clone());
        }
    }
    keys.insert(key.id()?, key.to_tuf()?);
    let body = json!({ "delegations": { "keys": keys, "roles": roles }, "targets": {} });
    sign("targets", version, TARGETS, body, signers.targets, now)
}

/// How the delegator names `role`.
pub(super) fn delegation(role: &str, key: &PublicKey) -> Result<Value, WriterError> {
    Ok(json!({
        "keyids": [key.id()?],
        "name": role,
        "paths": TargetKind::ALL.map(TargetKind::pattern),
        // What this role does not have, no other runtime's role should supply.
        "terminating": true,
        "threshold": 1,
    }))
}

pub(super) fn targets(
    version: u64,
    targets: &BTreeMap<&str, Value>,
    signer: &dyn Signer,
    now: Timestamp,
) -> Result<Vec<u8>, WriterError> {
    let body = json!({ "targets": targets });
    sign("targets", version, TARGETS, body, signer, now)
}

pub(super) fn snapshot(
    version: u64,
    meta: &Map<String, Value>,
    signer: &dyn Signer,
    now: Timestamp,
) -> Result<Vec<u8>, WriterError> {
    sign(
        "snapshot",
        version,
        SNAPSHOT,
        json!({ "meta": meta }),
        signer,
        now,
    )
}

pub(super) fn timestamp(
    version: u64,
    snapshot: Value,
    signer: &dyn Signer,
    now: Timestamp,
) -> Result<Vec<u8>, WriterError> {
    let body = json!({
        "meta": { "snapshot.json": snapshot },
        // A device without a clock learns from it how late it is at least.
        "x-avocado-issued": seconds(now).to_string(),
    });
    sign("timestamp", version, TIMESTAMP, body, signer, now)
}

fn sign(
    kind: &str,
    version: u64,
    lifetime: MetadataLifetime,
    mut signed: Value,
    signer: &dyn Signer,
    now: Timestamp,
) -> Result<Vec<u8>, WriterError> {
    if let Some(map) = signed.as_object_mut() {
        map.insert("_type".to_owned(), json!(kind));
        map.insert("expires".to_owned(), json!(lifetime.end(now)?.to_string()));
        map.insert("spec_version".to_owned(), json!(SPECIFICATION));
        map.insert("version".to_owned(), json!(version));
    }
    let message = canonical_json(&signed).map_err(|_| WriterError::Unsignable)?;
    let signature = signer
        .sign(&message)
        .map_err(|source| WriterError::Signer {
            role: kind.to_owned(),
            source,
        })?;
    // A token or a server may hold another key than the one that it names. Published, such metadata
    // would keep devices from everything that comes after it.
    if !signer.public().verify(&message, &signature) {
        return Err(WriterError::Signature {
            role: kind.to_owned(),
        });
    }
    let envelope = json!({
        "signatures": [{ "keyid": signer.public().id()?, "sig": hex(&signature) }],
        "signed": signed,
    });
    // The envelope in canonical form too, so that equal contents are equal files.
    canonical_json(&envelope).map_err(|_| WriterError::Unsignable)
}
