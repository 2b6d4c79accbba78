//! Users and groups. Their values become lines of `/etc/passwd`, `/etc/shadow` and `/etc/group`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::decode::{MapOrList, Spanned, TextOr, decode};
use crate::model::{Group, Permissions, Placed, User};
use crate::raw::{RawGroup, RawPermissions, RawUser, Text};
use crate::suggest;
use crate::text::quoted;

use super::context::ResolveContext;

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

pub(super) fn permissions(cx: &mut ResolveContext<'_>) -> Profiles {
    let mut profiles = Vec::new();
    for (name, node) in cx.one_or_named("permissions").unwrap_or_default() {
        let raw = decode::<RawPermissions>(node, cx.report);
        let permissions = raw.map(|raw| users_and_groups(cx, raw.value));
        profiles.push((name.value, permissions));
    }
    Profiles(profiles)
}

pub(super) fn users_and_groups(cx: &mut ResolveContext<'_>, raw: RawPermissions) -> Permissions {
    let users = raw
        .users
        .map(|users| usable_entries(cx, users, |user| user.name.clone()));
    let groups = raw.groups.map(|groups| {
        usable_entries(cx, groups, |group| match group {
            TextOr::Other(group) => group.name.clone(),
            // `groups: [docker]`; its place is that of the list entry.
            TextOr::Text(_) => None,
        })
    });
    let mut uids = StatedNumbers::of("user");
    let mut gids = StatedNumbers::of("group");
    let users = users.unwrap_or_default().into_iter();
    let groups = groups.unwrap_or_default().into_iter();
    Permissions {
        users: users
            .map(|(name, raw)| user(cx, name.value, raw, &mut uids))
            .collect(),
        groups: groups
            .map(|(name, raw)| group(cx, name, raw, &mut gids))
            .collect(),
    }
}

/// The numbers of the users or of the groups that are stated.
struct StatedNumbers {
    kind: &'static str,
    names: BTreeMap<u32, String>,
}

impl StatedNumbers {
    fn of(kind: &'static str) -> Self {
        StatedNumbers {
            kind,
            names: BTreeMap::new(),
        }
    }

    /// Says where another one has the number. An image with both is refused; one that takes its users
    /// from elsewhere is as good as before.
    fn add(&mut self, cx: &mut ResolveContext<'_>, name: &str, number: &Spanned<u32>) {
        let kind = self.kind;
        refuse_no_number(cx, number);
        match self.names.entry(number.value) {
            Entry::Vacant(entry) => {
                entry.insert(name.to_owned());
            }
            Entry::Occupied(other) => {
                let message = format!(
                    "{kind} {} has the number of {kind} {}: no image can have both",
                    quoted(name),
                    quoted(other.get())
                );
                cx.report
                    .warning(number.span, message)
                    .hint("the owner of a file is a number: give it another one, or leave it out");
            }
        }
    }
}

/// The old `users` and `groups` of an extension.
pub(super) fn of_extension(
    cx: &mut ResolveContext<'_>,
    confext: bool,
    users: Option<Spanned<MapOrList<RawUser>>>,
    groups: Option<Spanned<MapOrList<TextOr<RawGroup>>>>,
) -> Option<Placed<Permissions>> {
    let spans = [
        users.as_ref().map(|u| u.span),
        groups.as_ref().map(|g| g.span),
    ];
    let spans = spans.into_iter().flatten();
    for span in spans.clone() {
        let message = if confext {
            "users and groups of an extension are an old way to write permissions"
        } else {
            "users and groups of an extension that is no confext have no effect"
        };
        cx.report
            .warning(span, message)
            .hint("move them to `permissions:` and name that in `rootfs.permissions`");
    }
    let span = spans.min_by_key(|span| span.start)?;
    let raw = RawPermissions {
        users: users.map(|users| users.value),
        groups: groups.map(|groups| groups.value),
    };
    let permissions = users_and_groups(cx, raw);
    confext.then(|| cx.placed(permissions, span))
}

/// Name and value of each entry of either form; those without a usable name are reported.
fn usable_entries<T: BareName>(
    cx: &mut ResolveContext<'_>,
    named: MapOrList<T>,
    own_name: impl Fn(&T) -> Option<Text>,
) -> Vec<(Text, Option<T>)> {
    let mut entries: Vec<(Text, Option<T>)> = Vec::new();
    match named {
        MapOrList::Map(map) => {
            for (key, value) in map.0 {
                let own = value.as_ref().and_then(&own_name);
                if let Some(own) = own.filter(|own| own.value != key.value) {
                    let (own_text, key) = (quoted(&own), quoted(&key));
                    let message = format!("the name {own_text} differs from the key {key}");
                    cx.report.error(own.span, message);
                }
                entries.push((key, value));
            }
        }
        MapOrList::List(list) => {
            for Spanned { value, span } in list {
                match (own_name(&value), value.bare_name()) {
                    (Some(name), _) => entries.push((name, Some(value))),
                    (None, Some(name)) => {
                        let value = name.to_owned();
                        entries.push((Spanned { value, span }, None));
                    }
                    (None, None) => {
                        cx.report.error(span, "`name` is missing");
                    }
                }
            }
        }
    }
    let mut usable: Vec<(Text, Option<T>)> = Vec::new();
    for (name, value) in entries {
        if usable.iter().any(|(known, _)| known.value == name.value) {
            let message = format!("{} is given twice", quoted(&name));
            cx.report.error(name.span, message);
        } else if account(cx, &name) {
            usable.push((name, value));
        }
    }
    usable
}

/// The kernel has this one for none at all.
fn refuse_no_number(cx: &mut ResolveContext<'_>, number: &Spanned<u32>) {
    if number.value == u32::MAX {
        let message = format!("{} is the number of no user and no group", number.value);
        cx.report
            .error(number.span, message)
            .hint("write a smaller one, or nothing for a number that is assigned");
    }
}

fn user(
    cx: &mut ResolveContext<'_>,
    name: String,
    raw: Option<RawUser>,
    uids: &mut StatedNumbers,
) -> User {
    let raw = raw.unwrap_or_default();
    if let Some(uid) = &raw.uid {
        uids.add(cx, &name, uid);
    }
    if let Some(gid) = &raw.gid {
        refuse_no_number(cx, gid);
    }
    User {
        name,
        uid: raw.uid.map(|uid| uid.value),
        gid: raw.gid.map(|gid| gid.value),
        gecos: passwd_field(cx, raw.gecos),
        home: passwd_path(cx, raw.home),
        shell: passwd_path(cx, raw.shell),
        password: password(cx, raw.password),
        groups: accounts(cx, raw.groups),
        last_change: raw.last_change.unwrap_or(19000),
        min_days: raw.min_days.unwrap_or(0),
        max_days: raw.max_days.unwrap_or(99999),
        warn_days: raw.warn_days.unwrap_or(7),
        inactive_days: raw.inactive_days,
        expire_date: raw.expire_date,
    }
}

fn group(
    cx: &mut ResolveContext<'_>,
    name: Text,
    raw: Option<TextOr<RawGroup>>,
    gids: &mut StatedNumbers,
) -> Group {
    let (gid, members) = match raw {
        Some(TextOr::Other(raw)) => (raw.gid, raw.members),
        // `docker: 999` is its number; any other bare value means "assign one".
        Some(TextOr::Text(text)) => {
            let number = number(cx, &name, &text);
            let span = name.span;
            (number.map(|value| Spanned { value, span }), None)
        }
        None => (None, None),
    };
    if let Some(gid) = &gid {
        gids.add(cx, &name, gid);
    }
    let members = members.map(|members| accounts(cx, Some(members)));
    Group {
        name: name.value,
        gid: gid.map(|gid| gid.value),
        members,
    }
}

/// The number that a bare value is. What only looks like one has a slip in it, and would be a number
/// that nobody stated.
fn number(cx: &mut ResolveContext<'_>, name: &Text, text: &str) -> Option<u32> {
    let plain = text.len() == 1 || !text.starts_with('0');
    let number = text.parse().ok().filter(|_| plain);
    if number.is_none() && text.starts_with(|c: char| c.is_ascii_digit() || "+-".contains(c)) {
        let message = format!(
            "`{}` of group {} is no number",
            text.escape_debug(),
            quoted(name)
        );
        let diagnostic = cx.report.error(name.span, message);
        diagnostic.hint("write digits alone, or nothing for a number that is assigned");
    }
    number
}

fn accounts(cx: &mut ResolveContext<'_>, names: Option<Vec<Text>>) -> Vec<String> {
    let mut usable = Vec::new();
    for name in names.unwrap_or_default() {
        if account(cx, &name) {
            usable.push(name.value);
        }
    }
    usable
}

/// Whether it is a name that the tools of a Linux system take for a user or a group.
fn account(cx: &mut ResolveContext<'_>, name: &Text) -> bool {
    let stem = name.strip_suffix('$').unwrap_or(name);
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let usable = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let good = stem.starts_with(first) && stem.chars().all(usable) && name.len() <= 32;
    if !good {
        let message = format!("{} is not a usable user or group name", quoted(name));
        cx.report.error(name.span, message);
    }
    good
}

fn passwd_field(cx: &mut ResolveContext<'_>, text: Option<Text>) -> Option<String> {
    let text = text?;
    if text.contains(':') || text.chars().any(char::is_control) {
        let message = "this cannot hold `:` or line ends";
        cx.report.error(text.span, message);
        return None;
    }
    Some(text.value)
}

/// What crypt(3) made of a password, or what no password has: `*`, `!`. Others lock the account.
fn password(cx: &mut ResolveContext<'_>, text: Option<Text>) -> Option<String> {
    let plain = text.as_ref().filter(|text| !is_hash(text));
    let plain = plain.map(|text| text.span);
    let password = passwd_field(cx, text)?;
    if let Some(span) = plain {
        let message = "this is no hash of a password: nobody can log in with it";
        let diagnostic = cx.report.warning(span, message);
        diagnostic.hint("put here what `openssl passwd -6` makes of the password");
    }
    Some(password)
}

fn is_hash(text: &str) -> bool {
    let of_old = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || "./".contains(c))
    };
    match text.as_bytes() {
        // `x` is what stands in /etc/passwd for it.
        [] | [b'!' | b'*', ..] | [b'x'] => true,
        [b'$', rest @ ..] => rest.contains(&b'$'),
        [b'_', ..] => text.len() == 20 && of_old(&text[1..]),
        // Of DES: a salt of two letters, and eleven more.
        _ => text.len() == 13 && of_old(text),
    }
}

fn passwd_path(cx: &mut ResolveContext<'_>, text: Option<Text>) -> Option<String> {
    if let Some(text) = text.as_ref().filter(|text| !text.starts_with('/')) {
        let message = format!("{} is not an absolute path", quoted(text));
        cx.report.error(text.span, message);
    }
    passwd_field(cx, text)
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
