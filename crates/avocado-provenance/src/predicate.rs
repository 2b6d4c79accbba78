//! The predicate of SLSA Provenance v1, as far as a build of ours has something to say in it.
//! Fields that others add are not read: what this version does not know changes nothing of the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::statement::DigestSet;

/// The type of the predicate.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// How a build of ours goes: what its parameters mean and how it is done again is in
/// `docs/provenance.md`. It changes when they come to mean something else.
pub const BUILD_TYPE: &str = "https://docs.avocadolinux.org/provenance/build/v1";

/// Who built: this program, wherever it ran. Which machine that was is known by the key.
pub const BUILDER_ID: &str = "https://docs.avocadolinux.org/provenance/builder/avocado";

/// How it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlsaProvenance {
    /// What was to be made, and of what.
    pub build_definition: BuildDefinition,
    /// Who made it.
    pub run_details: RunDetails,
}

/// What was to be made, and of what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildDefinition {
    /// [`BUILD_TYPE`].
    pub build_type: String,
    /// What who ran the build chose.
    pub external_parameters: ExternalParameters,
    /// What follows from the project.
    #[serde(default)]
    pub internal_parameters: InternalParameters,
    /// What it was made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved_dependencies: Vec<ResourceDescriptor>,
}

/// What who ran the build chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalParameters {
    /// The file of the project, by its name; its digest is among the dependencies.
    pub project: String,
    /// The runtime.
    pub runtime: String,
    /// The target that the project was resolved for.
    pub target: String,
    /// The board, where one was chosen or stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_board: Option<String>,
    /// Whether dnf was given further arguments. Which they were is not told: they can hold passwords.
    #[serde(default, skip_serializing_if = "is_false")]
    pub further_dnf_arguments: bool,
    /// Whether the scriptlets of packages were left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub without_scriptlets: bool,
}

/// What follows from the project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InternalParameters {
    /// Seconds since 1970: the time stamp of all that is made.
    #[serde(default)]
    pub source_date_epoch: u64,
}

/// Something that was used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceDescriptor {
    /// What it is called here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is called everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Its digests.
    #[serde(default, skip_serializing_if = "DigestSet::is_empty")]
    pub digest: DigestSet,
    /// What else there is to say of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, Value>,
}

/// Who made it. There is no `metadata`: times and ids of runs would make the same build another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDetails {
    /// The builder.
    pub builder: ProvenanceBuilder,
}

/// A builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenanceBuilder {
    /// [`BUILDER_ID`].
    pub id: String,
    /// The versions of its parts: of this program, and of the tools that wrote images.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub version: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !*value
}
