//! How the images of a runtime were made: the statement of it, signed, and its verification.
//!
//! A [`ProvenanceStatement`] is an [in-toto Statement v1] whose predicate is [SLSA Provenance v1].
//! It names what was made (subjects, with their digests) and what it was made of. It travels in a
//! [`SignedEnvelope`] of [DSSE], as the target [`PROVENANCE_TARGET`] of the runtime's repository.
//! The same build gives the same bytes: there are no times and no ids of runs in it.
//!
//! [`verify`] believes nothing of an envelope before one of the trusted keys has signed it, and
//! [`ProvenanceStatement::check_subjects`] compares what is stated with what is there.
//!
//! [in-toto Statement v1]: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
//! [SLSA Provenance v1]: https://slsa.dev/spec/v1.0/provenance
//! [DSSE]: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md

mod envelope;
mod predicate;
mod statement;
mod subjects;
#[cfg(test)]
mod tests;
mod verification;

pub use envelope::{EnvelopeError, LONGEST_ENVELOPE, PAYLOAD_TYPE, SignedEnvelope, authenticated};
pub use predicate::{
    BUILD_TYPE, BUILDER_ID, BuildDefinition, ExternalParameters, InternalParameters,
    PREDICATE_TYPE, ProvenanceBuilder, ResourceDescriptor, RunDetails, SlsaProvenance,
};
pub use statement::{
    DigestSet, ProvenanceStatement, STATEMENT_TYPE, StatementError, StatementSubject,
};
pub use subjects::{SubjectsError, runtime_subjects};
pub use verification::{ProvenanceError, VerifiedProvenance, verify};

/// The name of the target that holds the envelope: a bundle of one line, as in-toto names them.
pub const PROVENANCE_TARGET: &str = "provenance.intoto.jsonl";
