//! The contents of each kind of metadata, and its signature.

use std::collections::BTreeMap;

use avocado_manifest::Digest;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::WriteError;
use crate::canonical::canonical;
use crate::digests::hex;
use crate::keyring::seconds;
use crate::keys::SigningKey;

/// The version of the specification that the metadata follows.
const SPECIFICATION: &str = "1.0.31";

/// What a runtime's role may speak about: every kind of file that a runtime has.
pub(super) const PATHS: [&str; 2] = ["manifest.json", "*.raw"];

pub(super) const ROOT: Lifetime = Lifetime {
    days: 365,
    left: 30,
};
pub(super) const TARGETS: Lifetime = Lifetime {
    days: 5 * 365,
    left: 30,
};
pub(super) const SNAPSHOT: Lifetime = Lifetime { days: 90, left: 14 };
pub(super) const TIMESTAMP: Lifetime = Lifetime { days: 7, left: 1 };

/// How long metadata lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetime {
    /// From signing to expiry, in days.
    days: i64,
    /// With no more than so many days left, it is time to sign anew.
    left: i64,
}

impl Lifetime {
    fn end(self, now: Timestamp) -> Result<Timestamp, WriteError> {
        seconds(now)
            .checked_add(days(self.days))
            .map_err(|_| WriteError::Time)
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

pub(super) fn root(version: u64, key: &SigningKey, now: Timestamp) -> Result<Vec<u8>, WriteError> {
    let role = json!({ "keyids": [key.id()], "threshold": 1 });
    let body = json!({
        "consistent_snapshot": true,
        "keys": { key.id(): key.public().to_tuf() },
        "roles": { "root": role, "snapshot": role, "targets": role, "timestamp": role },
    });
    sign("root", version, ROOT, body, key, now)
}

/// Targets metadata that only delegates: first to `role`, then to the roles in `others`, which
/// are kept as they were.
pub(super) fn delegator(
    version: u64,
    role: &str,
    others: Option<&Value>,
    key: &SigningKey,
    now: Timestamp,
) -> Result<Vec<u8>, WriteError> {
    let mut roles = vec![delegation(role, key)];
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
    keys.insert(key.id(), key.public().to_tuf());
    let body = json!({ "delegations": { "keys": keys, "roles": roles }, "targets": {} });
    sign("targets", version, TARGETS, body, key, now)
}

/// How the delegator names `role`.
pub(super) fn delegation(role: &str, key: &SigningKey) -> Value {
    json!({
        "keyids": [key.id()],
        "name": role,
        "paths": PATHS,
        // What this role does not have, no other runtime's role should supply.
        "terminating": true,
        "threshold": 1,
    })
}

pub(super) fn targets(
    version: u64,
    targets: &BTreeMap<&str, Value>,
    key: &SigningKey,
    now: Timestamp,
) -> Result<Vec<u8>, WriteError> {
    let body = json!({ "targets": targets });
    sign("targets", version, TARGETS, body, key, now)
}

pub(super) fn snapshot(
    version: u64,
    meta: &Map<String, Value>,
    key: &SigningKey,
    now: Timestamp,
) -> Result<Vec<u8>, WriteError> {
    sign(
        "snapshot",
        version,
        SNAPSHOT,
        json!({ "meta": meta }),
        key,
        now,
    )
}

pub(super) fn timestamp(
    version: u64,
    snapshot: Value,
    key: &SigningKey,
    now: Timestamp,
) -> Result<Vec<u8>, WriteError> {
    let body = json!({
        "meta": { "snapshot.json": snapshot },
        // A device without a clock learns from it how late it is at least.
        "x-avocado-issued": seconds(now).to_string(),
    });
    sign("timestamp", version, TIMESTAMP, body, key, now)
}

fn sign(
    kind: &str,
    version: u64,
    lifetime: Lifetime,
    mut signed: Value,
    key: &SigningKey,
    now: Timestamp,
) -> Result<Vec<u8>, WriteError> {
    if let Some(map) = signed.as_object_mut() {
        map.insert("_type".to_owned(), json!(kind));
        map.insert("expires".to_owned(), json!(lifetime.end(now)?.to_string()));
        map.insert("spec_version".to_owned(), json!(SPECIFICATION));
        map.insert("version".to_owned(), json!(version));
    }
    let message = canonical(&signed).map_err(|_| WriteError::Unsignable)?;
    let envelope = json!({
        "signatures": [{ "keyid": key.id(), "sig": hex(&key.sign(&message)) }],
        "signed": signed,
    });
    // The envelope in canonical form too, so that equal contents are equal files.
    canonical(&envelope).map_err(|_| WriteError::Unsignable)
}
