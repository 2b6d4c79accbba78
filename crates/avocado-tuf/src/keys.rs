//! Keys: what signs TUF metadata and what verifies it.

use std::fmt;

use avocado_manifest::{Digest, canonical_json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, Ed25519KeyPair, KeyPair, RSA_PSS_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Value, json};

use crate::digests::{hex, unhex};
use crate::pem::PemKey;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no random bytes.
    #[error("the system has no random numbers for a new key")]
    NoRandom,
    /// The bytes are no Ed25519 seed.
    #[error("the bytes are no Ed25519 key")]
    NotAKey,
    /// The key cannot be written as TUF metadata carries it.
    #[error("the key has no form in TUF metadata")]
    Unwritable,
}

/// A private Ed25519 key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
    id: String,
}

impl SigningKey {
    /// The key that this seed stands for.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::NotAKey)?;
        let public = PublicKey::ed25519(pair.public_key().as_ref());
        let id = public.id()?;
        Ok(SigningKey { pair, public, id })
    }

    /// A seed for a new key.
    pub fn random_seed() -> Result<[u8; 32], KeyError> {
        let mut seed = [0; 32];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| KeyError::NoRandom)?;
        Ok(seed)
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The id that TUF metadata knows this key by.
    pub fn id(&self) -> String {
        self.id.clone()
    }

    /// The signature over `message`, 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum KeyAlgorithm {
    Ed25519,
    EcdsaP256,
    RsaPssSha256,
}

/// A public key of a kind that can be verified with. Two keys are equal if they are the same key,
/// whatever ids they are listed under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    material: Vec<u8>,
}

impl PublicKey {
    /// An Ed25519 key from its 32 bytes.
    fn ed25519(bytes: &[u8]) -> Self {
        PublicKey {
            algorithm: KeyAlgorithm::Ed25519,
            material: bytes.to_vec(),
        }
    }

    /// Reads an Ed25519 key as the registry of signing keys writes it (`<keyid>.pub`): its 32 bytes in
    /// base64. None where the text is something else.
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.trim_ascii()).ok()?;
        (bytes.len() == 32).then(|| PublicKey::ed25519(&bytes))
    }

    /// Reads a key as TUF metadata writes it; none where its kind is unknown or it is malformed.
    ///
    /// Known are ed25519 (hexadecimal), ECDSA over P-256 with SHA-256 and RSASSA-PSS with SHA-256
    /// (both PEM).
    pub fn from_tuf(value: &Value) -> Option<Self> {
        let text = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
        let keytype = text(value, "keytype")?;
        let scheme = text(value, "scheme")?;
        let public = text(value.get("keyval")?, "public")?;
        let (algorithm, material) = match (keytype.as_str(), scheme.as_str()) {
            ("ed25519", "ed25519") => {
                let bytes = unhex(&public).filter(|bytes| bytes.len() == 32)?;
                (KeyAlgorithm::Ed25519, bytes)
            }
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                match PemKey::parse(&public)? {
                    PemKey::P256(point) => (KeyAlgorithm::EcdsaP256, point),
                    PemKey::Rsa(_) => return None,
                }
            }
            ("rsa", "rsassa-pss-sha256") => match PemKey::parse(&public)? {
                PemKey::Rsa(key) => (KeyAlgorithm::RsaPssSha256, key),
                PemKey::P256(_) => return None,
            },
            _ => return None,
        };
        Some(PublicKey {
            algorithm,
            material,
        })
    }

    /// The key as TUF metadata writes it.
    ///
    /// # Errors
    /// [`KeyError::Unwritable`].
    pub(crate) fn to_tuf(&self) -> Result<Value, KeyError> {
        let pem = |key: PemKey| key.to_pem().ok_or(KeyError::Unwritable);
        let (keytype, scheme, public) = match self.algorithm {
            KeyAlgorithm::Ed25519 => ("ed25519", "ed25519", hex(&self.material)),
            KeyAlgorithm::EcdsaP256 => {
                let point = PemKey::P256(self.material.clone());
                ("ecdsa", "ecdsa-sha2-nistp256", pem(point)?)
            }
            KeyAlgorithm::RsaPssSha256 => {
                let key = PemKey::Rsa(self.material.clone());
                ("rsa", "rsassa-pss-sha256", pem(key)?)
            }
        };
        Ok(json!({ "keytype": keytype, "keyval": { "public": public }, "scheme": scheme }))
    }

    /// The id that TUF metadata knows this key by: the SHA-256 of the canonical form of the key.
    ///
    /// # Errors
    /// [`KeyError::Unwritable`].
    pub fn id(&self) -> Result<String, KeyError> {
        let canonical = canonical_json(&self.to_tuf()?).map_err(|_| KeyError::Unwritable)?;
        Ok(Digest::of(&canonical).to_string())
    }

    /// The raw bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.material
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.algorithm {
            KeyAlgorithm::Ed25519 => &ED25519,
            KeyAlgorithm::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
            KeyAlgorithm::RsaPssSha256 => &RSA_PSS_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(algorithm, &self.material)
            .verify(message, signature)
            .is_ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A key that is the same in every run.
    pub(crate) fn key(n: u8) -> SigningKey {
        SigningKey::from_seed(&[n; 32]).unwrap()
    }

    #[test]
    fn the_id_is_the_digest_of_the_canonical_key() {
        let key = key(1);
        let canonical = format!(
            r#"{{"keytype":"ed25519","keyval":{{"public":"{}"}},"scheme":"ed25519"}}"#,
            hex(key.public().as_bytes())
        );
        assert_eq!(key.id(), Digest::of(canonical.as_bytes()).to_string());
        assert_eq!(
            PublicKey::from_tuf(&key.public().to_tuf().unwrap()).as_ref(),
            Some(key.public())
        );
    }

    #[test]
    fn a_signature_binds_key_and_message() {
        let signature = key(1).sign(b"m");
        assert!(key(1).public().verify(b"m", &signature));
        assert!(!key(1).public().verify(b"n", &signature));
        assert!(!key(2).public().verify(b"m", &signature));
        assert!(!key(1).public().verify(b"m", &signature[..63]));
        assert!(!key(1).public().verify(b"m", b""));
    }

    // RFC 8032, section 7.1, test 2.
    #[test]
    fn ed25519_as_published() {
        let public = json!({
            "keytype": "ed25519", "scheme": "ed25519",
            "keyval": {"public": "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"},
        });
        let signature = unhex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00").unwrap();
        let key = PublicKey::from_tuf(&public).unwrap();
        assert!(key.verify(b"\x72", &signature));
        assert!(!key.verify(b"\x73", &signature));
    }

    #[test]
    fn ecdsa_and_rsa_as_the_reference_implementation_signs() {
        // Made with python-securesystemslib over the bytes `message`.
        let vectors: Vec<Value> = serde_json::from_str(include_str!("keys.vectors.json")).unwrap();
        let keys: Vec<_> = vectors
            .iter()
            .map(|v| PublicKey::from_tuf(&v["key"]).unwrap())
            .collect();
        let algorithms: Vec<_> = keys.iter().map(|key| key.algorithm).collect();
        assert_eq!(
            algorithms,
            [KeyAlgorithm::EcdsaP256, KeyAlgorithm::RsaPssSha256]
        );
        for (vector, key) in vectors.iter().zip(&keys) {
            let mut signature = unhex(vector["sig"].as_str().unwrap()).unwrap();
            assert!(key.verify(b"message", &signature));
            assert!(!key.verify(b"massage", &signature));
            *signature.last_mut().unwrap() ^= 1;
            assert!(!key.verify(b"message", &signature));
            // Written, it is what the reference implementation wrote.
            assert_eq!(key.to_tuf().unwrap(), vector["key"]);
            // A key of one kind under the name of another.
            let mut other = vector["key"].clone();
            other["keytype"] = json!(if other["keytype"] == "rsa" {
                "ecdsa"
            } else {
                "rsa"
            });
            assert_eq!(PublicKey::from_tuf(&other), None);
        }
    }

    #[test]
    fn a_key_is_read_as_the_registry_writes_it() {
        let public = key(1).public().clone();
        let text = STANDARD.encode(public.as_bytes());
        assert_eq!(PublicKey::from_base64(&text).as_ref(), Some(&public));
        assert_eq!(PublicKey::from_base64(&format!("{text}\n")), Some(public));
        for wrong in ["", "AAAA", "-----BEGIN PUBLIC KEY-----"] {
            assert_eq!(PublicKey::from_base64(wrong), None);
        }
    }

    #[test]
    fn what_is_no_usable_key() {
        for value in [
            json!(null),
            json!({}),
            json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "00"}}),
            json!({"keytype": "ed25519", "scheme": "x", "keyval": {"public": "00".repeat(32)}}),
            json!({"keytype": "rsa", "scheme": "rsassa-pss-sha256", "keyval": {"public": "x"}}),
            json!({"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": 5}}),
        ] {
            assert_eq!(PublicKey::from_tuf(&value), None, "{value}");
        }
    }
}
