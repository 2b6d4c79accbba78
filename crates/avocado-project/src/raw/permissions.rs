use schemars::JsonSchema;
use serde::Deserialize;

use super::{Text, Texts};
use crate::decode::{MapOrList, NotDecoded, TextOr};

/// Users and groups.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Permissions")]
pub(crate) struct RawPermissions {
    pub(crate) users: Option<MapOrList<RawUser>>,
    pub(crate) groups: Option<MapOrList<TextOr<RawGroup>>>,
}

/// One user.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "User")]
pub(crate) struct RawUser {
    /// The login name, where it is not the key.
    pub(crate) name: Option<Text>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) gecos: Option<Text>,
    pub(crate) home: Option<Text>,
    pub(crate) shell: Option<Text>,
    /// Empty: no password. Otherwise a crypt(3) hash.
    pub(crate) password: Option<Text>,
    pub(crate) groups: Option<Texts>,
    pub(crate) last_change: Option<u32>,
    pub(crate) min_days: Option<u32>,
    pub(crate) max_days: Option<u32>,
    pub(crate) warn_days: Option<u32>,
    pub(crate) inactive_days: Option<u32>,
    pub(crate) expire_date: Option<u32>,
    pub(crate) system: NotDecoded,
}

/// One group.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Group")]
pub(crate) struct RawGroup {
    pub(crate) name: Option<Text>,
    pub(crate) gid: Option<u32>,
    pub(crate) members: Option<Texts>,
    pub(crate) system: NotDecoded,
    pub(crate) password: NotDecoded,
}
