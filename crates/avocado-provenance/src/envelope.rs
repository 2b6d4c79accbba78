//! DSSE: a payload with its type, and signatures over both.

use avocado_tuf::{PublicKey, Signer};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::{Deserialize, Serialize};

/// The type of a payload that is an in-toto Statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// The longest envelope that is read, in bytes: the statement of a runtime with 5,000 packages has
/// about 2 MiB.
pub const LONGEST_ENVELOPE: u64 = 16 << 20;

/// The most signatures that are looked at.
const MOST_SIGNATURES: usize = 64;

/// Why bytes are no envelope, or one that is not signed by those who count.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// It is too long to be looked at.
    #[error("the envelope has {length} bytes, and at most {LONGEST_ENVELOPE} are read")]
    TooLong {
        /// How long it is.
        length: u64,
    },
    /// It is no JSON, or not of the form of an envelope.
    #[error("it is no DSSE envelope")]
    Json(#[from] serde_json::Error),
    /// What should be base64 is not.
    #[error("the {part} of the envelope is not base64, standard or for URLs")]
    Base64 {
        /// `payload` or `signature`.
        part: &'static str,
        /// What is wrong.
        #[source]
        source: base64::DecodeError,
    },
    /// There are more signatures than any publisher has keys.
    #[error("the envelope has {found} signatures, and at most {MOST_SIGNATURES} are looked at")]
    TooManySignatures {
        /// How many there are.
        found: usize,
    },
    /// The payload is something else than was asked for.
    #[error("the payload is of type `{found}` and not `{expected}`")]
    PayloadType {
        /// What the envelope says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// No signature is of a trusted key.
    #[error(
        "none of its {} is of a trusted key{}",
        if *found == 1 { "1 signature".to_owned() } else { format!("{found} signatures") },
        if keyids.is_empty() { String::new() } else { format!("; it names {}", keyids.join(", ")) }
    )]
    Untrusted {
        /// How many signatures there are.
        found: usize,
        /// The ids of keys that they name: a hint, which nobody signed.
        keyids: Vec<String>,
    },
    /// A signer did not sign.
    #[error("the signer did not sign the envelope")]
    Signer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A signer signed with another key than its own.
    #[error("what the signer signed does not verify with its key")]
    Signature,
    /// The key has no id.
    #[error("the key of the signer cannot be used")]
    Key(#[from] avocado_tuf::keys::KeyError),
}

/// A payload with signatures over it and its type. What is read is believed by
/// [`payload_signed_by`](SignedEnvelope::payload_signed_by) alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEnvelope {
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct EnvelopeSignature {
    keyid: String,
    signature: Vec<u8>,
}

/// An envelope as JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EnvelopeDocument {
    payload_type: String,
    payload: String,
    signatures: Vec<SignatureDocument>,
}

#[derive(Serialize, Deserialize)]
struct SignatureDocument {
    #[serde(default)]
    keyid: Option<String>,
    sig: String,
}

impl SignedEnvelope {
    /// Signs a payload.
    ///
    /// # Errors
    /// [`EnvelopeError::Signer`], [`EnvelopeError::Signature`] and [`EnvelopeError::Key`].
    pub fn sign(
        payload_type: &str,
        payload: Vec<u8>,
        signer: &dyn Signer,
    ) -> Result<Self, EnvelopeError> {
        let message = authenticated(payload_type, &payload);
        let signature = signer.sign(&message).map_err(EnvelopeError::Signer)?;
        // A token or a server may hold another key than the one that it names.
        if !signer.public().verify(&message, &signature) {
            return Err(EnvelopeError::Signature);
        }
        let keyid = signer.public().id()?;
        Ok(SignedEnvelope {
            payload_type: payload_type.to_owned(),
            payload,
            signatures: vec![EnvelopeSignature { keyid, signature }],
        })
    }

    /// The envelope as a line of JSON.
    ///
    /// # Errors
    /// [`EnvelopeError::Json`].
    pub fn to_line(&self) -> Result<Vec<u8>, EnvelopeError> {
        let signatures = self.signatures.iter().map(|signature| SignatureDocument {
            keyid: Some(signature.keyid.clone()),
            sig: STANDARD.encode(&signature.signature),
        });
        let mut line = serde_json::to_vec(&EnvelopeDocument {
            payload_type: self.payload_type.clone(),
            payload: STANDARD.encode(&self.payload),
            signatures: signatures.collect(),
        })?;
        line.push(b'\n');
        Ok(line)
    }

    /// Reads an envelope. Nothing of it is verified by that.
    ///
    /// # Errors
    /// [`EnvelopeError::TooLong`], [`EnvelopeError::Json`], [`EnvelopeError::TooManySignatures`] and
    /// [`EnvelopeError::Base64`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let length = bytes.len() as u64;
        if length > LONGEST_ENVELOPE {
            return Err(EnvelopeError::TooLong { length });
        }
        let document: EnvelopeDocument = serde_json::from_slice(bytes)?;
        let found = document.signatures.len();
        if found > MOST_SIGNATURES {
            return Err(EnvelopeError::TooManySignatures { found });
        }
        let mut signatures = Vec::new();
        for SignatureDocument { keyid, sig } in document.signatures {
            signatures.push(EnvelopeSignature {
                keyid: keyid.unwrap_or_default(),
                signature: decode("signature", &sig)?,
            });
        }
        Ok(SignedEnvelope {
            payload: decode("payload", &document.payload)?,
            payload_type: document.payload_type,
            signatures,
        })
    }

    /// The payload and the key that signed it, if it is of this type and one of the `trusted` keys did.
    /// Which id a signature gives its key does not matter: it is a hint that nobody signed.
    ///
    /// # Errors
    /// [`EnvelopeError::Untrusted`] and [`EnvelopeError::PayloadType`].
    pub fn payload_signed_by<'k>(
        &self,
        payload_type: &str,
        trusted: &'k [PublicKey],
    ) -> Result<(&[u8], &'k PublicKey), EnvelopeError> {
        let message = authenticated(&self.payload_type, &self.payload);
        let signed_by = |key: &&PublicKey| {
            let mut signatures = self.signatures.iter();
            signatures.any(|signature| key.verify(&message, &signature.signature))
        };
        let Some(key) = trusted.iter().find(signed_by) else {
            let named = self.signatures.iter().map(|s| shortened(&s.keyid));
            return Err(EnvelopeError::Untrusted {
                found: self.signatures.len(),
                keyids: named.filter(|keyid| !keyid.is_empty()).collect(),
            });
        };
        if self.payload_type != payload_type {
            return Err(EnvelopeError::PayloadType {
                found: shortened(&self.payload_type),
                expected: payload_type.to_owned(),
            });
        }
        Ok((&self.payload, key))
    }
}

/// What is signed: DSSE's pre-authentication encoding of a type and a payload.
pub fn authenticated(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

/// Both alphabets are allowed, with the padding or without it; not both in one text.
fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, EnvelopeError> {
    let alphabet = if text.contains(['-', '_']) {
        alphabet::URL_SAFE
    } else {
        alphabet::STANDARD
    };
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&alphabet, config)
        .decode(text)
        .map_err(|source| EnvelopeError::Base64 { part, source })
}

/// A text of a stranger, as far as it fits into a message.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
