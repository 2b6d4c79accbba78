//! The types of org.avocado.RootAuthority.

use serde::{Deserialize, Serialize};

/// `RootAuthorityInfo`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RootAuthority {
    pub(crate) version: i64,
    pub(crate) expires: String,
    pub(crate) keys: Vec<TrustedKey>,
}

/// `TrustedKey`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrustedKey {
    pub(crate) key_id: String,
    pub(crate) key_type: String,
    pub(crate) roles: Vec<String>,
}

/// The result of `Show`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shown {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) authority: Option<RootAuthority>,
}
