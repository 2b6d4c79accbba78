//! Users and groups. Their values become lines of `/etc/passwd`, `/etc/shadow` and `/etc/group`.

use crate::decode::{Named, Spanned, TextOr, decode};
use crate::diagnostic::quoted;
use crate::model::{Group, Permissions, User};
use crate::raw::{RawGroup, RawPermissions, RawUser, Text};
use crate::suggest;

use super::Resolver;

/// The named permissions of the project; `None` for those that are wrong.
pub(super) struct Profiles(Vec<(String, Option<Permissions>)>);

impl Profiles {
    /// The permissions of that name, or a hint where there are none of that name.
    pub(super) fn get(&self, name: &str) -> Result<Option<&Permissions>, String> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((_, permissions)) => Ok(permissions.as_ref()),
            None => Err(suggest::hint(
                name,
                self.0.iter().map(|(name, _)| name.as_str()),
            )),
        }
    }
}

impl Resolver<'_, '_> {
    pub(super) fn permissions(&mut self) -> Profiles {
        let mut profiles = Vec::new();
        for (name, node) in self.singleton_or_named("permissions").unwrap_or_default() {
            let raw = decode::<RawPermissions>(node, self.report);
            let permissions = raw.map(|raw| self.users_and_groups(raw.value));
            profiles.push((name.value, permissions));
        }
        Profiles(profiles)
    }

    pub(super) fn users_and_groups(&mut self, raw: RawPermissions) -> Permissions {
        let users = raw
            .users
            .map(|named| self.named(named, |user| user.name.clone()));
        let groups = raw.groups.map(|named| {
            self.named(named, |group| match group {
                TextOr::Other(group) => group.name.clone(),
                // `groups: [docker]`; its place is that of the list entry.
                TextOr::Text(_) => None,
            })
        });
        let users = users.unwrap_or_default().into_iter();
        let groups = groups.unwrap_or_default().into_iter();
        Permissions {
            users: users.map(|(name, raw)| self.user(name, raw)).collect(),
            groups: groups.map(|(name, raw)| self.group(name, raw)).collect(),
        }
    }

    /// Name and value of each entry of either form; those without a usable name are reported.
    fn named<T: BareName>(
        &mut self,
        named: Named<T>,
        own_name: impl Fn(&T) -> Option<Text>,
    ) -> Vec<(String, Option<T>)> {
        let mut entries: Vec<(Text, Option<T>)> = Vec::new();
        match named {
            Named::Map(map) => {
                for (key, value) in map.0 {
                    let own = value.as_ref().and_then(&own_name);
                    if let Some(own) = own.filter(|own| own.value != key.value) {
                        let (own_text, key) = (quoted(&own), quoted(&key));
                        let message = format!("the name {own_text} differs from the key {key}");
                        self.report.error(own.span, message);
                    }
                    entries.push((key, value));
                }
            }
            Named::List(list) => {
                for Spanned { value, span } in list {
                    match (own_name(&value), value.bare_name()) {
                        (Some(name), _) => entries.push((name, Some(value))),
                        (None, Some(name)) => {
                            let value = name.to_owned();
                            entries.push((Spanned { value, span }, None));
                        }
                        (None, None) => {
                            self.report.error(span, "`name` is missing");
                        }
                    }
                }
            }
        }
        let mut usable: Vec<(String, Option<T>)> = Vec::new();
        for (name, value) in entries {
            if usable.iter().any(|(known, _)| *known == name.value) {
                let message = format!("{} is given twice", quoted(&name));
                self.report.error(name.span, message);
            } else if self.account(&name) {
                usable.push((name.value, value));
            }
        }
        usable
    }

    fn user(&mut self, name: String, raw: Option<RawUser>) -> User {
        let raw = raw.unwrap_or_default();
        User {
            name,
            uid: raw.uid,
            gid: raw.gid,
            gecos: self.passwd_field(raw.gecos),
            home: self.passwd_path(raw.home),
            shell: self.passwd_path(raw.shell),
            password: self.passwd_field(raw.password),
            groups: self.accounts(raw.groups),
            last_change: raw.last_change.unwrap_or(19000),
            min_days: raw.min_days.unwrap_or(0),
            max_days: raw.max_days.unwrap_or(99999),
            warn_days: raw.warn_days.unwrap_or(7),
            inactive_days: raw.inactive_days,
            expire_date: raw.expire_date,
        }
    }

    fn group(&mut self, name: String, raw: Option<TextOr<RawGroup>>) -> Group {
        let (gid, members) = match raw {
            Some(TextOr::Other(raw)) => (raw.gid, raw.members),
            // `docker: 999` is its number; any other bare value means "assign one".
            Some(TextOr::Text(text)) => (text.parse().ok(), None),
            None => (None, None),
        };
        let members = members.map(|members| self.accounts(Some(members)));
        Group { name, gid, members }
    }

    fn accounts(&mut self, names: Option<Vec<Text>>) -> Vec<String> {
        let mut usable = Vec::new();
        for name in names.unwrap_or_default() {
            if self.account(&name) {
                usable.push(name.value);
            }
        }
        usable
    }

    /// Whether it is a name that the tools of a Linux system take for a user or a group.
    fn account(&mut self, name: &Text) -> bool {
        let stem = name.strip_suffix('$').unwrap_or(name);
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let usable = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let good = stem.starts_with(first) && stem.chars().all(usable) && name.len() <= 32;
        if !good {
            let message = format!("{} is not a usable user or group name", quoted(name));
            self.report.error(name.span, message);
        }
        good
    }

    fn passwd_field(&mut self, text: Option<Text>) -> Option<String> {
        let text = text?;
        if text.contains(':') || text.chars().any(char::is_control) {
            let message = "this cannot hold `:` or line ends";
            self.report.error(text.span, message);
            return None;
        }
        Some(text.value)
    }

    fn passwd_path(&mut self, text: Option<Text>) -> Option<String> {
        if let Some(text) = text.as_ref().filter(|text| !text.starts_with('/')) {
            let message = format!("{} is not an absolute path", quoted(text));
            self.report.error(text.span, message);
        }
        self.passwd_field(text)
    }
}

/// A list entry that is nothing but a name.
trait BareName {
    fn bare_name(&self) -> Option<&str>;
}

impl BareName for RawUser {
    fn bare_name(&self) -> Option<&str> {
        None
    }
}

impl BareName for TextOr<RawGroup> {
    fn bare_name(&self) -> Option<&str> {
        match self {
            TextOr::Text(name) => Some(name),
            TextOr::Other(_) => None,
        }
    }
}
