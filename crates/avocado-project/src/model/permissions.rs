use serde::{Deserialize, Serialize};

/// Users and groups for `/etc/passwd`, `/etc/shadow` and `/etc/group`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// In file order.
    pub users: Vec<User>,
    /// In file order.
    pub groups: Vec<Group>,
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Numeric id; assigned from 1000 where absent (existing users keep theirs).
    pub uid: Option<u32>,
    /// Numeric primary group; a group of the user's name where absent.
    pub gid: Option<u32>,
    /// Full name; default the login name.
    pub gecos: Option<String>,
    /// Home directory; default `/home/<name>`.
    pub home: Option<String>,
    /// Login shell; default `/bin/sh`.
    pub shell: Option<String>,
    /// `None`: locked (`*`). `Some("")`: no password. Otherwise a crypt(3) hash.
    pub password: Option<String>,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// Days since 1970 of the last password change; default 19000.
    pub last_change: u32,
    /// Default 0.
    pub min_days: u32,
    /// Default 99999.
    pub max_days: u32,
    /// Default 7.
    pub warn_days: u32,
    /// Default empty.
    pub inactive_days: Option<u32>,
    /// Default empty.
    pub expire_date: Option<u32>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Group name.
    pub name: String,
    /// Numeric id; assigned from 1000 where absent (existing groups keep theirs).
    pub gid: Option<u32>,
    /// Members; `None` leaves those of an existing group.
    pub members: Option<Vec<String>>,
}
