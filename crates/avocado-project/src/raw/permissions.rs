use schemars::JsonSchema;
use serde::Deserialize;

use super::{Text, Texts};
use crate::decode::{MapOrList, NotDecoded, Spanned, TextOr};

/// Users and groups.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Permissions")]
pub(crate) struct RawPermissions {
    /// By name, or a list.
    pub(crate) users: Option<MapOrList<RawUser>>,
    /// By name, or a list.
    pub(crate) groups: Option<MapOrList<TextOr<RawGroup>>>,
}

/// One user.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "User")]
pub(crate) struct RawUser {
    /// The login name, where it is not the key.
    pub(crate) name: Option<Text>,
    /// The number; from 1000 on where absent.
    pub(crate) uid: Option<Spanned<u32>>,
    /// The number of the primary group; a group of the user's name where absent.
    pub(crate) gid: Option<Spanned<u32>>,
    /// The full name; the login name where absent.
    pub(crate) gecos: Option<Text>,
    /// The home directory; `/home/<name>` where absent.
    pub(crate) home: Option<Text>,
    /// The login shell; `/bin/sh` where absent.
    pub(crate) shell: Option<Text>,
    /// Empty: no password. Otherwise a crypt(3) hash.
    pub(crate) password: Option<Text>,
    /// Further groups.
    pub(crate) groups: Option<Texts>,
    /// When the password was changed, in days since 1970; 19000 where absent.
    pub(crate) last_change: Option<u32>,
    /// How many days the password has to be kept; 0 where absent.
    pub(crate) min_days: Option<u32>,
    /// After how many days it has to be changed; 99999 where absent.
    pub(crate) max_days: Option<u32>,
    /// How many days before that the user is warned; 7 where absent.
    pub(crate) warn_days: Option<u32>,
    /// How many days after that the account still works.
    pub(crate) inactive_days: Option<u32>,
    /// When the account ends, in days since 1970.
    pub(crate) expire_date: Option<u32>,
    /// Not used.
    pub(crate) system: NotDecoded,
}

/// One group.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Group")]
pub(crate) struct RawGroup {
    /// The name, where it is not the key.
    pub(crate) name: Option<Text>,
    /// The number; from 1000 on where absent.
    pub(crate) gid: Option<Spanned<u32>>,
    /// Its members; those of a package's group are kept where absent.
    pub(crate) members: Option<Texts>,
    /// Not used.
    pub(crate) system: NotDecoded,
    /// Not used.
    pub(crate) password: NotDecoded,
}
