//! The types of org.avocado.RootAuthority.

use serde::{Deserialize, Serialize};

/// `RootAuthorityInfo`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RootAuthority {
    pub(crate) version: i64,
    pub(crate) expires: String,
    pub(crate) keys: Vec<TrustedKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repositories: Option<Vec<TrustedRepository>>,
}

/// `TrustedKey`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrustedKey {
    pub(crate) key_id: String,
    pub(crate) key_type: String,
    pub(crate) roles: Vec<String>,
}

/// `TrustedRepository`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrustedRepository {
    #[serde(default)]
    pub(crate) url: Option<String>,
    #[serde(default)]
    pub(crate) root_version: Option<u64>,
    #[serde(default)]
    pub(crate) timestamp_version: Option<u64>,
    #[serde(default)]
    pub(crate) snapshot_version: Option<u64>,
    #[serde(default)]
    pub(crate) targets_version: Option<u64>,
    #[serde(default)]
    pub(crate) newest_time: Option<String>,
}

impl From<avocado_device::TrustedRepository> for TrustedRepository {
    fn from(repository: avocado_device::TrustedRepository) -> Self {
        TrustedRepository {
            url: repository.url,
            root_version: repository.known.root,
            timestamp_version: repository.known.timestamp,
            snapshot_version: repository.known.snapshot,
            targets_version: repository.known.targets,
            newest_time: repository.known.time.map(|time| time.to_string()),
        }
    }
}

/// The result of `Show`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ShowReply {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) authority: Option<RootAuthority>,
}

/// The parameters of `Forget`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForgetParameters {
    pub(crate) url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) what: Option<String>,
}

impl ForgetParameters {
    /// What is to be forgotten; none where that is no word for it.
    pub(crate) fn what(&self) -> Option<avocado_device::ForgetLevel> {
        match self.what.as_deref() {
            None | Some("roles") => Some(avocado_device::ForgetLevel::Roles),
            Some("versions") => Some(avocado_device::ForgetLevel::Versions),
            Some("time") => Some(avocado_device::ForgetLevel::Time),
            Some(_) => None,
        }
    }
}

/// The word for what is to be forgotten.
pub(crate) fn forget_word(what: avocado_device::ForgetLevel) -> &'static str {
    match what {
        avocado_device::ForgetLevel::Roles => "roles",
        avocado_device::ForgetLevel::Versions => "versions",
        avocado_device::ForgetLevel::Time => "time",
    }
}

/// The result of `Forget`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForgetReply {
    pub(crate) known: bool,
}
