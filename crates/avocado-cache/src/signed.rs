//! Entries as a store has them: `{"signatures": […], "signed": {…}}`, where the signatures are over the
//! canonical form of `signed`, as those of TUF metadata are. What `signed` is stands in it, so that no
//! signature of the same key over something else can pass for one of these.

use std::collections::BTreeSet;

use avocado_manifest::{CanonicalJsonError, Digest, canonical_json};
use avocado_tuf::{PublicKey, SigningKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{ActionKey, ActionResult};

/// The longest entry that is read, in bytes.
pub const LONGEST_ENTRY: u64 = 4 << 20;

/// What is signed.
const KIND: &str = "avocado-action-result";

/// The member of what is signed that says so.
const KIND_MEMBER: &str = "_type";

#[derive(Serialize, Deserialize)]
struct Envelope {
    signatures: Vec<EntrySignature>,
    signed: Value,
}

#[derive(Serialize, Deserialize)]
struct EntrySignature {
    /// The SHA-256 of the public key, as the registry of signing keys has it.
    keyid: String,
    /// The Ed25519 key, in base64: who trusts an id need not have the key.
    public: String,
    /// In base64.
    sig: String,
}

/// Why an entry is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// It is longer than any that is written.
    #[error("it is longer than {LONGEST_ENTRY} bytes")]
    TooLong,
    /// It is no entry, or a part of one.
    #[error("it is not whole, or not an entry of the cache")]
    Malformed(#[source] serde_json::Error),
    /// There is no signature on it.
    #[error("it is not signed")]
    Unsigned,
    /// Keys signed it that are not trusted.
    #[error("it is signed by {0}, which is not among the trusted keys")]
    Foreign(String),
    /// The signature of a trusted key is not over these bytes.
    #[error("the signature of {0} is not over what it says")]
    WrongSignature(String),
    /// It is the result of another action.
    #[error("it is the result of another action")]
    OtherAction,
    /// It has no canonical form.
    #[error("it has no canonical form")]
    Canonical(#[from] CanonicalJsonError),
}

/// The keys whose results are used, by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedKeys(BTreeSet<String>);

impl TrustedKeys {
    /// Whether results of this key are used.
    pub fn has(&self, key_id: &str) -> bool {
        self.0.contains(key_id)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<String> for TrustedKeys {
    fn from_iter<I: IntoIterator<Item = String>>(ids: I) -> Self {
        TrustedKeys(ids.into_iter().collect())
    }
}

/// The id of a key, as the registry of signing keys has it: the SHA-256 of the public key.
pub fn key_id(public: &PublicKey) -> String {
    Digest::of(public.as_bytes()).to_string()
}

/// The entry of a result, signed by `key`.
///
/// # Errors
/// When it has no JSON form, or no canonical one.
pub fn sign(result: &ActionResult, key: &SigningKey) -> Result<Vec<u8>, EntryError> {
    let mut signed = serde_json::to_value(result).map_err(EntryError::Malformed)?;
    signed[KIND_MEMBER] = KIND.into();
    let public = key.public();
    let envelope = Envelope {
        signatures: vec![EntrySignature {
            keyid: key_id(public),
            public: STANDARD.encode(public.as_bytes()),
            sig: STANDARD.encode(key.sign(&canonical_json(&signed)?)),
        }],
        signed,
    };
    let value = serde_json::to_value(envelope).map_err(EntryError::Malformed)?;
    Ok(canonical_json(&value)?)
}

/// The result in an entry, if it is that of `action` and one of the trusted keys signed it.
///
/// # Errors
/// Why it is not to be used.
pub fn verify(
    entry: &[u8],
    action: ActionKey,
    trusted: &TrustedKeys,
) -> Result<ActionResult, EntryError> {
    if entry.len() as u64 > LONGEST_ENTRY {
        return Err(EntryError::TooLong);
    }
    let envelope: Envelope = serde_json::from_slice(entry).map_err(EntryError::Malformed)?;
    let bytes = canonical_json(&envelope.signed)?;
    let mut why = EntryError::Unsigned;
    let mut is_signed = false;
    for signature in &envelope.signatures {
        let key = ed25519(&signature.public);
        let id = key.as_ref().map_or_else(|| signature.keyid.clone(), key_id);
        // An id is for people here: the one that counts follows from the key.
        if !trusted.has(&id) {
            why = EntryError::Foreign(shown(&id));
            continue;
        }
        let made = STANDARD.decode(&signature.sig).unwrap_or_default();
        if key.is_some_and(|key| key.verify(&bytes, &made)) {
            is_signed = true;
            break;
        }
        why = EntryError::WrongSignature(shown(&id));
    }
    if !is_signed {
        return Err(why);
    }
    let mut signed = envelope.signed;
    let kind = signed
        .as_object_mut()
        .and_then(|map| map.remove(KIND_MEMBER));
    if kind.as_ref().and_then(Value::as_str) != Some(KIND) {
        return Err(EntryError::OtherAction);
    }
    let result: ActionResult = serde_json::from_value(signed).map_err(EntryError::Malformed)?;
    if result.action != action {
        return Err(EntryError::OtherAction);
    }
    Ok(result)
}

fn ed25519(public: &str) -> Option<PublicKey> {
    let bytes = STANDARD.decode(public).ok()?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    PublicKey::from_tuf(&json!({
        "keytype": "ed25519",
        "scheme": "ed25519",
        "keyval": { "public": digits },
    }))
}

/// As much of an id as tells it from others. It is of a stranger.
fn shown(id: &str) -> String {
    let digits = id.chars().filter(char::is_ascii_hexdigit).take(12);
    format!("key {}…", digits.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlobId, CachedFile, CachedForm};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    fn trusted(key: &SigningKey) -> TrustedKeys {
        TrustedKeys::from_iter([key_id(key.public())])
    }

    fn result() -> ActionResult {
        ActionResult {
            action: ActionKey::of(&json!("an action")).unwrap(),
            output: json!({ "image": 1 }),
            digest: Digest::of(b"consumed"),
            files: vec![CachedFile {
                path: "output/a.raw".to_owned(),
                form: CachedForm::File,
                blob: BlobId {
                    sha256: Digest::of(b"a"),
                    size: 1,
                },
                unpacked: 1,
                mode: 0o644,
                modified: (0, 0),
            }],
        }
    }

    #[test]
    fn what_a_trusted_key_signed_is_what_was_signed() {
        let entry = sign(&result(), &key(1)).unwrap();
        let read = verify(&entry, result().action, &trusted(&key(1))).unwrap();
        assert_eq!(read, result());
        // Two machines make the same bytes.
        assert_eq!(entry, sign(&result(), &key(1)).unwrap());
    }

    #[test]
    fn every_other_entry_is_refused() {
        let action = result().action;
        let entry = sign(&result(), &key(1)).unwrap();
        let text = String::from_utf8(entry.clone()).unwrap();
        let envelope: Value = serde_json::from_str(&text).unwrap();
        let with = |path: &str, value: Value| {
            let mut changed = envelope.clone();
            *changed.pointer_mut(path).unwrap() = value;
            serde_json::to_vec(&changed).unwrap()
        };
        let foreign = sign(&result(), &key(2)).unwrap();
        let other = ActionResult {
            action: ActionKey::of(&json!("another action")).unwrap(),
            ..result()
        };
        let of_root = {
            let signed = json!({ "_type": "root", "version": 1 });
            let signature = key(1).sign(&canonical_json(&signed).unwrap());
            let mut changed = envelope.clone();
            changed["signed"] = signed;
            changed["signatures"][0]["sig"] = STANDARD.encode(signature).into();
            serde_json::to_vec(&changed).unwrap()
        };
        let foreign_envelope: Value = serde_json::from_slice(&foreign).unwrap();
        let foreign_signature = foreign_envelope.pointer("/signatures/0").unwrap().clone();
        let in_foreign_name = {
            let mut changed = foreign_envelope.clone();
            changed["signatures"][0]["keyid"] = envelope["signatures"][0]["keyid"].clone();
            serde_json::to_vec(&changed).unwrap()
        };
        let cases: Vec<(&str, Vec<u8>, &str)> = vec![
            ("nothing", Vec::new(), "not whole"),
            ("truncated", entry[..entry.len() / 2].to_vec(), "not whole"),
            ("another document", b"{}".to_vec(), "not whole"),
            ("unsigned", with("/signatures", json!([])), "not signed"),
            ("foreign", foreign, "not among the trusted"),
            (
                "a foreign key under a trusted id",
                in_foreign_name,
                "not among the trusted",
            ),
            (
                "a changed digest",
                with("/signed/digest", json!(Digest::of(b"x"))),
                "not over what it says",
            ),
            (
                "a changed path",
                with("/signed/files/0/path", json!("../../x")),
                "not over what it says",
            ),
            (
                "a broken signature",
                with("/signatures/0/sig", json!("AA==")),
                "not over what it says",
            ),
            (
                "no base64",
                with("/signatures/0/public", json!("?")),
                "not over what it says",
            ),
            (
                "another action",
                sign(&other, &key(1)).unwrap(),
                "of another action",
            ),
            ("other metadata of the key", of_root, "of another action"),
            (
                "too long",
                vec![b' '; usize::try_from(LONGEST_ENTRY).unwrap() + 1],
                "longer than",
            ),
            (
                "a fraction",
                with("/signed/output", json!(0.5)),
                "no canonical form",
            ),
        ];
        for (name, entry, why) in cases {
            let error = verify(&entry, action, &trusted(&key(1))).unwrap_err();
            assert!(error.to_string().contains(why), "{name}: {error}");
        }
        // One trusted signature among others is enough.
        let both = with(
            "/signatures",
            json!([foreign_signature, envelope["signatures"][0]]),
        );
        assert_eq!(verify(&both, action, &trusted(&key(1))).unwrap(), result());
    }
}
