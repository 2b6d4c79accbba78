//! The four kinds of TUF metadata, typed, and the check of their signatures.
//!
//! A signature covers the canonical form of the `signed` value *as received*, fields that are
//! unknown here included; the typed view is made from the same text, once the signatures are right.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use avocado_manifest::Digest;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::canonical::JsonText;
use crate::digests::{Digests, hex, unhex};
use crate::keys::PublicKey;
use crate::metadata_error::MetadataError;

/// Names that no delegated role can have.
const TOP_LEVEL: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];

/// A kind of metadata.
pub(crate) trait MetadataKind: for<'de> Deserialize<'de> {
    /// The value of `_type`.
    const TYPE: &'static str;
    fn version(&self) -> u64;
    fn expires(&self) -> jiff::Timestamp;
}

/// Which keys speak for a role, and how many of them have to.
pub(crate) struct RoleAuthority<'a> {
    pub(crate) keys: &'a KeySet,
    pub(crate) role: &'a RoleKeys,
}

impl RoleAuthority<'_> {
    /// Names the keys and how many of them are needed, whatever ids they have.
    pub(crate) fn fingerprint(&self) -> Digest {
        let ids = self.role.keyids.iter();
        let keys: BTreeSet<_> = ids
            .filter_map(|id| Some(hex(self.keys.0.get(id)?.as_bytes())))
            .collect();
        let keys: Vec<_> = keys.into_iter().collect();
        Digest::of(format!("{} {}", self.role.threshold, keys.join(" ")).as_bytes())
    }
}

#[derive(Deserialize)]
struct Signature {
    keyid: String,
    sig: String,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "_type")]
    kind: String,
    spec_version: String,
}

/// The longest list of signatures, in bytes.
const SIGNATURES: usize = 256 << 10;

/// Metadata whose signatures have not been looked at yet. Nothing is made of its content before.
pub(crate) struct UnverifiedMetadata<'a> {
    signatures: Vec<Signature>,
    signed: JsonText<'a>,
}

impl<'a> UnverifiedMetadata<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, MetadataError> {
        let envelope = JsonText::parse(bytes)?;
        let signatures = envelope.member("signatures")?.as_str();
        if signatures.len() > SIGNATURES {
            return Err(MetadataError::TooManySignatures);
        }
        let signatures: Vec<Signature> = serde_json::from_slice(signatures.as_bytes())?;
        let mut seen = BTreeSet::new();
        for signature in &signatures {
            if !seen.insert(&signature.keyid) {
                return Err(MetadataError::Repeated(signature.keyid.clone()));
            }
        }
        Ok(UnverifiedMetadata {
            signed: envelope.member("signed")?,
            signatures,
        })
    }

    /// The content, once enough keys of every authority have signed it.
    pub(crate) fn verify<T: MetadataKind>(
        self,
        authorities: &[RoleAuthority<'_>],
    ) -> Result<T, MetadataError> {
        let message = self.signed.canonical()?;
        for authority in authorities {
            self.check(&message, authority)?;
        }
        drop(message);
        self.content()
    }

    /// The content of a root, which also speaks for itself.
    pub(crate) fn verify_root(
        self,
        trusted: Option<&RootMetadata>,
    ) -> Result<RootMetadata, MetadataError> {
        let message = self.signed.canonical()?;
        if let Some(trusted) = trusted {
            self.check(&message, &trusted.authority(&trusted.roles.root))?;
        }
        let root: RootMetadata = self.content()?;
        self.check(&message, &root.authority(&root.roles.root))?;
        Ok(root)
    }

    fn content<T: MetadataKind>(&self) -> Result<T, MetadataError> {
        let text = self.signed.as_str().as_bytes();
        let header: Header = serde_json::from_slice(text)?;
        if header.kind != T::TYPE {
            return Err(MetadataError::Type(header.kind));
        }
        let parts: Vec<&str> = header.spec_version.split('.').collect();
        let numbers = parts.iter().all(|part| part.parse::<u32>().is_ok());
        if !numbers || !(2..=3).contains(&parts.len()) || parts.first() != Some(&"1") {
            return Err(MetadataError::Specification(header.spec_version));
        }
        Ok(serde_json::from_slice(text)?)
    }

    fn check(&self, message: &[u8], authority: &RoleAuthority<'_>) -> Result<(), MetadataError> {
        // Distinct keys, not ids: one key may be listed under several ids.
        let mut valid = BTreeSet::new();
        for Signature { keyid, sig } in &self.signatures {
            let key = authority.keys.0.get(keyid);
            let key = key.filter(|_| authority.role.keyids.contains(keyid));
            if let (Some(key), Some(sig)) = (key, unhex(sig))
                && !valid.contains(key)
                && key.verify(message, &sig)
            {
                valid.insert(key);
            }
        }
        let threshold = authority.role.threshold.get();
        if (valid.len() as u64) < threshold {
            return Err(MetadataError::Signatures {
                valid: valid.len(),
                threshold,
            });
        }
        Ok(())
    }
}

/// Keys by id; those of unknown kinds are left out, so that they cannot count.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeySet(pub(crate) BTreeMap<String, PublicKey>);

impl<'de> Deserialize<'de> for KeySet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let keys = values
            .into_iter()
            .filter_map(|(id, value)| Some((id, PublicKey::from_tuf(&value)?)));
        Ok(KeySet(keys.collect()))
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RoleKeys {
    pub(crate) keyids: BTreeSet<String>,
    pub(crate) threshold: NonZeroU64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RootMetadata {
    pub(crate) version: NonZeroU64,
    #[serde(deserialize_with = "utc")]
    pub(crate) expires: jiff::Timestamp,
    #[serde(default)]
    pub(crate) consistent_snapshot: bool,
    pub(crate) keys: KeySet,
    pub(crate) roles: RootRoles,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RootRoles {
    pub(crate) root: RoleKeys,
    pub(crate) timestamp: RoleKeys,
    pub(crate) snapshot: RoleKeys,
    pub(crate) targets: RoleKeys,
}

impl RootMetadata {
    pub(crate) fn authority<'a>(&'a self, role: &'a RoleKeys) -> RoleAuthority<'a> {
        RoleAuthority {
            keys: &self.keys,
            role,
        }
    }
}

/// What one metadata file says about another.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct MetadataFile {
    pub(crate) version: NonZeroU64,
    pub(crate) length: Option<u64>,
    pub(crate) hashes: Option<Digests>,
}

impl MetadataFile {
    /// Whether `bytes` have the stated length and digests, as far as they are stated.
    pub(crate) fn describes(&self, bytes: &[u8]) -> bool {
        self.length.is_none_or(|n| n == bytes.len() as u64)
            && self.hashes.as_ref().is_none_or(|h| h.match_bytes(bytes))
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TimestampMetadata {
    pub(crate) version: NonZeroU64,
    #[serde(deserialize_with = "utc")]
    pub(crate) expires: jiff::Timestamp,
    meta: TimestampMeta,
    #[serde(default, rename = "x-avocado-issued")]
    issued: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct TimestampMeta {
    #[serde(rename = "snapshot.json")]
    snapshot: MetadataFile,
}

impl TimestampMetadata {
    /// When it was signed, where the publisher says it. This is our writer's own field, and no
    /// reason to refuse anything.
    pub(crate) fn issued(&self) -> Option<jiff::Timestamp> {
        self.issued.as_ref()?.as_str()?.parse().ok()
    }

    pub(crate) fn snapshot(&self) -> &MetadataFile {
        &self.meta.snapshot
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SnapshotMetadata {
    pub(crate) version: NonZeroU64,
    #[serde(deserialize_with = "utc")]
    pub(crate) expires: jiff::Timestamp,
    pub(crate) meta: BTreeMap<String, MetadataFile>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TargetsMetadata {
    pub(crate) version: NonZeroU64,
    #[serde(deserialize_with = "utc")]
    pub(crate) expires: jiff::Timestamp,
    pub(crate) targets: BTreeMap<String, TargetFile>,
    #[serde(default)]
    pub(crate) delegations: Option<Delegations>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TargetFile {
    pub(crate) length: u64,
    pub(crate) hashes: Digests,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawDelegations")]
pub(crate) struct Delegations {
    pub(crate) keys: KeySet,
    pub(crate) roles: Vec<DelegatedRole>,
}

#[derive(Deserialize)]
struct RawDelegations {
    keys: KeySet,
    #[serde(default)]
    roles: Vec<DelegatedRole>,
}

impl TryFrom<RawDelegations> for Delegations {
    type Error = String;

    fn try_from(RawDelegations { keys, roles }: RawDelegations) -> Result<Self, String> {
        let mut seen = BTreeSet::new();
        for role in &roles {
            if role.name.is_empty() || TOP_LEVEL.contains(&role.name.as_str()) {
                return Err(format!(
                    "nothing can be delegated to a role `{}`",
                    role.name
                ));
            }
            if !seen.insert(&role.name) {
                return Err(format!("the role `{}` is delegated to twice", role.name));
            }
        }
        Ok(Delegations { keys, roles })
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawDelegatedRole")]
pub(crate) struct DelegatedRole {
    pub(crate) name: String,
    pub(crate) keys: RoleKeys,
    pub(crate) terminating: bool,
    pub(crate) scope: DelegationScope,
}

/// What a delegated role may speak about.
#[derive(Debug, Clone)]
pub(crate) enum DelegationScope {
    Paths(Vec<String>),
    HashPrefixes(Vec<String>),
}

#[derive(Deserialize)]
struct RawDelegatedRole {
    name: String,
    #[serde(flatten)]
    keys: RoleKeys,
    #[serde(default)]
    terminating: bool,
    paths: Option<Vec<String>>,
    path_hash_prefixes: Option<Vec<String>>,
}

impl TryFrom<RawDelegatedRole> for DelegatedRole {
    type Error = String;

    fn try_from(raw: RawDelegatedRole) -> Result<Self, String> {
        let scope = match (raw.paths, raw.path_hash_prefixes) {
            (Some(paths), None) => DelegationScope::Paths(paths),
            (None, Some(prefixes)) => DelegationScope::HashPrefixes(prefixes),
            _ => {
                return Err(format!(
                    "the role `{}` needs either `paths` or `path_hash_prefixes`",
                    raw.name
                ));
            }
        };
        Ok(DelegatedRole {
            name: raw.name,
            keys: raw.keys,
            terminating: raw.terminating,
            scope,
        })
    }
}

#[cfg(test)]
impl DelegatedRole {
    pub(crate) fn for_test(name: &str) -> Self {
        DelegatedRole {
            name: name.to_owned(),
            keys: RoleKeys {
                keyids: BTreeSet::new(),
                threshold: NonZeroU64::MIN,
            },
            terminating: false,
            scope: DelegationScope::Paths(Vec::new()),
        }
    }
}

macro_rules! kind {
    ($type:ident, $name:literal) => {
        impl MetadataKind for $type {
            const TYPE: &'static str = $name;

            fn version(&self) -> u64 {
                self.version.get()
            }

            fn expires(&self) -> jiff::Timestamp {
                self.expires
            }
        }
    };
}

kind!(RootMetadata, "root");
kind!(TimestampMetadata, "timestamp");
kind!(SnapshotMetadata, "snapshot");
kind!(TargetsMetadata, "targets");

/// An RFC 3339 time in UTC, written with `Z`.
fn utc<'de, D: Deserializer<'de>>(deserializer: D) -> Result<jiff::Timestamp, D::Error> {
    use serde::de::Error;
    let text = String::deserialize(deserializer)?;
    if !text.ends_with('Z') {
        return Err(D::Error::custom(format!("`{text}` is not a time in UTC")));
    }
    text.parse().map_err(D::Error::custom)
}
