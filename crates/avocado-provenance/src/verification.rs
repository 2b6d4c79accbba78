use avocado_tuf::PublicKey;

use crate::envelope::{EnvelopeError, PAYLOAD_TYPE, SignedEnvelope};
use crate::statement::{ProvenanceStatement, StatementError};

/// Why an envelope says nothing that can be believed of how a runtime was made.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceError {
    /// It is no envelope, or none that a trusted key signed.
    #[error("the statement of provenance cannot be trusted")]
    Envelope(#[from] EnvelopeError),
    /// What was signed is something else.
    #[error("what was signed is no statement that this version knows")]
    Statement(#[from] StatementError),
}

/// A statement that a trusted key signed.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedProvenance {
    /// The statement.
    pub statement: ProvenanceStatement,
    /// The key.
    pub key: PublicKey,
}

/// Reads the envelope in `bytes`, and what it states if one of the `trusted` keys signed it.
///
/// # Errors
/// Any [`ProvenanceError`].
pub fn verify(bytes: &[u8], trusted: &[PublicKey]) -> Result<VerifiedProvenance, ProvenanceError> {
    let envelope = SignedEnvelope::parse(bytes)?;
    let (payload, key) = envelope.payload_signed_by(PAYLOAD_TYPE, trusted)?;
    Ok(VerifiedProvenance {
        statement: ProvenanceStatement::parse(payload)?,
        key: key.clone(),
    })
}
