use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Packages;

/// What a locked package is, beyond its version: two packages of one version may hold other files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub struct PackageHeader {
    /// `version-release.arch`, as among the locked packages. Those who know versions alone may
    /// have moved the package without this; then it says nothing.
    pub version: String,
    /// rpm's epoch: of two packages with one version the one with the higher epoch is the newer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u32,
    /// Of rpm's header, for example `sha256:…`. The header has the digest of every file.
    pub digest: String,
}

/// The headers of the packages of one tree, by name.
pub type PackageHeaders = BTreeMap<String, PackageHeader>;

/// Removes the headers of what is locked in another version, or no longer.
pub(super) fn keep_those_of(packages: &Packages, headers: &mut PackageHeaders) {
    headers.retain(|name, header| packages.get(name) == Some(&header.version));
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(epoch: &u32) -> bool {
    *epoch == 0
}
