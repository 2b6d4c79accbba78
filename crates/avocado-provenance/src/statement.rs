//! The statement: what was made, and the predicate about it.

use std::collections::{BTreeMap, BTreeSet};

use avocado_manifest::Digest;
use serde::{Deserialize, Serialize};

use crate::predicate::{BUILD_TYPE, PREDICATE_TYPE, SlsaProvenance};
use crate::subjects::SubjectsError;

/// The type of the statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// Why a payload is no statement of how a runtime was made.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// It is no JSON, or not of the form of such a statement.
    #[error("it is no statement of provenance")]
    Json(#[from] serde_json::Error),
    /// It is of another type.
    #[error("its {what} is `{found}` and not `{expected}`")]
    Type {
        /// `_type`, `predicateType` or `buildType`.
        what: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// It is about nothing.
    #[error("it has no subject")]
    NoSubject,
    /// One name stands for two things.
    #[error("it has two subjects with the name `{0}`")]
    Repeated(String),
    /// A subject is known by its name alone, which anything can have.
    #[error("its subject `{0}` has no sha256")]
    NoDigest(String),
}

/// What was made, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvenanceStatement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// What was made.
    pub subject: Vec<StatementSubject>,
    /// [`PREDICATE_TYPE`].
    pub predicate_type: String,
    /// How.
    pub predicate: SlsaProvenance,
}

/// Something that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementSubject {
    /// The name of its file, as the runtime's manifest and repository have it.
    pub name: String,
    /// Its digests.
    pub digest: DigestSet,
}

/// Digests by the names of their algorithms, of those that [in-toto knows].
///
/// [in-toto knows]: https://github.com/in-toto/attestation/blob/main/spec/v1/digest_set.md
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestSet {
    /// The SHA-256 of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Others: `gitCommit`, and `dirHash` for the files of a directory.
    #[serde(flatten)]
    pub others: BTreeMap<String, String>,
}

impl DigestSet {
    /// The one of a file.
    pub fn sha256(digest: Digest) -> Self {
        DigestSet {
            sha256: Some(digest),
            others: BTreeMap::new(),
        }
    }

    /// One of another algorithm.
    pub fn other(algorithm: &str, digest: &str) -> Self {
        DigestSet {
            sha256: None,
            others: BTreeMap::from([(algorithm.to_owned(), digest.to_owned())]),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sha256.is_none() && self.others.is_empty()
    }
}

impl ProvenanceStatement {
    /// A statement about these files, by name.
    pub fn about(subjects: &BTreeMap<String, Digest>, predicate: SlsaProvenance) -> Self {
        let subject = subjects.iter().map(|(name, digest)| StatementSubject {
            name: name.clone(),
            digest: DigestSet::sha256(*digest),
        });
        ProvenanceStatement {
            kind: STATEMENT_TYPE.to_owned(),
            subject: subject.collect(),
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate,
        }
    }

    /// The bytes that are signed: the same for equal statements.
    ///
    /// # Errors
    /// [`StatementError::Json`].
    pub fn to_payload(&self) -> Result<Vec<u8>, StatementError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads a statement of this kind.
    ///
    /// # Errors
    /// Any [`StatementError`].
    pub fn parse(payload: &[u8]) -> Result<Self, StatementError> {
        // Another kind has another predicate, so its type is said before its form.
        let kind: StatementKind = serde_json::from_slice(payload)?;
        expect("_type", &kind.kind, STATEMENT_TYPE)?;
        expect("predicateType", &kind.predicate_type, PREDICATE_TYPE)?;
        let statement: ProvenanceStatement = serde_json::from_slice(payload)?;
        let definition = &statement.predicate.build_definition;
        expect("buildType", &definition.build_type, BUILD_TYPE)?;
        statement.digests()?;
        Ok(statement)
    }

    /// The digests of the subjects, by name.
    ///
    /// # Errors
    /// Where there is no subject, two have one name, or one has no digest.
    pub fn digests(&self) -> Result<BTreeMap<&str, Digest>, StatementError> {
        let mut digests = BTreeMap::new();
        for StatementSubject { name, digest } in &self.subject {
            let Some(sha256) = digest.sha256 else {
                return Err(StatementError::NoDigest(name.clone()));
            };
            if digests.insert(name.as_str(), sha256).is_some() {
                return Err(StatementError::Repeated(name.clone()));
            }
        }
        if digests.is_empty() {
            return Err(StatementError::NoSubject);
        }
        Ok(digests)
    }

    /// Makes sure that the statement is about exactly these files, by name.
    ///
    /// # Errors
    /// Any [`SubjectsError`].
    pub fn check_subjects(&self, there: &BTreeMap<String, Digest>) -> Result<(), SubjectsError> {
        let subjects = self.subject.iter();
        let stated: BTreeMap<&str, Digest> = subjects
            .filter_map(|subject| Some((subject.name.as_str(), subject.digest.sha256?)))
            .collect();
        let names: BTreeSet<&str> = there.keys().map(String::as_str).collect();
        for (name, stated) in &stated {
            match there.get(*name) {
                None => return Err(SubjectsError::Unexpected((*name).to_owned())),
                Some(found) if found != stated => {
                    return Err(SubjectsError::Differs {
                        name: (*name).to_owned(),
                        found: *found,
                        stated: *stated,
                    });
                }
                Some(_) => {}
            }
        }
        match names.into_iter().find(|name| !stated.contains_key(name)) {
            Some(name) => Err(SubjectsError::Missing(name.to_owned())),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatementKind {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
}

fn expect(what: &'static str, found: &str, expected: &'static str) -> Result<(), StatementError> {
    if found == expected {
        return Ok(());
    }
    Err(StatementError::Type {
        what,
        found: found.chars().take(80).collect(),
        expected,
    })
}
