//! Users and groups: `/etc/passwd`, `/etc/shadow` and `/etc/group` of an image.

mod account_file;
#[cfg(test)]
mod tests;

use avocado_project::{Group, Permissions, User};

pub(crate) use self::account_file::AccountFile;
use super::Tree;
use crate::error::BuildError;

/// Ids that the project does not state are given from here on.
const FIRST_ID: u32 = 1000;

/// Writes the users and groups into the `etc` of an image tree. Packaged entries that are not
/// named stay as they are. Answers what there is to tell.
pub(crate) fn apply(root: &Tree, permissions: &Permissions) -> Result<Vec<String>, BuildError> {
    let mut passwd = AccountFile::read(root, "passwd")?;
    let mut shadow = AccountFile::read(root, "shadow")?;
    let mut group = AccountFile::read(root, "group")?;
    // Those with a stated number first: it must not be given to another one.
    let (fixed, free): (Vec<_>, Vec<_>) = permissions.groups.iter().partition(|g| g.gid.is_some());
    for g in fixed.into_iter().chain(free) {
        put_group(&mut group, g);
    }
    let (fixed, free): (Vec<_>, Vec<_>) = permissions.users.iter().partition(|u| u.uid.is_some());
    for user in fixed.into_iter().chain(free) {
        put_user(&mut passwd, &mut shadow, &mut group, user);
    }
    let users = permissions.users.iter().filter(|user| user.uid.is_some());
    for user in users {
        refuse_shared("user", &user.name, &passwd)?;
    }
    let groups = permissions
        .groups
        .iter()
        .filter(|group| group.gid.is_some());
    for g in groups {
        refuse_shared("group", &g.name, &group)?;
    }
    passwd.write(root, "passwd", 0o644)?;
    shadow.write(root, "shadow", 0o640)?;
    group.write(root, "group", 0o644)?;
    Ok(told(permissions, &group))
}

/// The owner of a file is a number: of two with one number each has what belongs to the other.
fn refuse_shared(kind: &str, name: &str, file: &AccountFile) -> Result<(), BuildError> {
    let is_it = |fields: &&Vec<String>| fields.first().is_some_and(|field| field == name);
    let id = |fields: &Vec<String>| fields.get(2).and_then(|id| id.parse::<u32>().ok());
    let stated = file.lines.iter().find(is_it).and_then(id);
    let mut others = file.lines.iter().filter(|fields| !is_it(fields));
    match others.find(|fields| stated.is_some() && id(fields) == stated) {
        Some(other) => Err(BuildError::Invalid(format!(
            "{kind} `{name}` of permissions has the number {}, which is that of {kind} `{}` already: \
             each would own what belongs to the other; give it another number, or leave it out",
            stated.unwrap_or_default(),
            other.first().map_or("", String::as_str)
        ))),
        None => Ok(()),
    }
}

fn told(permissions: &Permissions, group: &AccountFile) -> Vec<String> {
    let mut told = Vec::new();
    let gids = group.ids();
    for user in &permissions.users {
        if user.name == "root" && user.password.as_deref() == Some("") {
            told.push(
                "root logs in without a password: that is for development, not for a device in \
                 the field"
                    .to_owned(),
            );
        }
        if let Some(gid) = user.gid.filter(|gid| !gids.contains(gid)) {
            told.push(format!(
                "user `{}` has the group number {gid}, and there is no such group",
                user.name
            ));
        }
    }
    told
}

fn free_id(wanted: Option<u32>, file: &AccountFile) -> u32 {
    let taken = file.ids();
    wanted.unwrap_or_else(|| {
        (FIRST_ID..)
            .find(|id| !taken.contains(id))
            .unwrap_or(FIRST_ID)
    })
}

fn put_group(file: &mut AccountFile, g: &Group) {
    let gid = match (g.gid, file.field(&g.name, 2)) {
        (None, Some(existing)) => existing.clone(),
        (wanted, _) => free_id(wanted, file).to_string(),
    };
    let members = match (&g.members, file.field(&g.name, 3)) {
        (Some(members), _) => members.join(","),
        (None, Some(existing)) => existing.clone(),
        (None, None) => String::new(),
    };
    file.put(vec![g.name.clone(), "x".into(), gid, members]);
}

fn put_user(
    passwd: &mut AccountFile,
    shadow: &mut AccountFile,
    group: &mut AccountFile,
    user: &User,
) {
    let keep = |passwd: &mut AccountFile, index: usize, wanted: Option<String>, default: String| {
        wanted.unwrap_or_else(|| passwd.field(&user.name, index).cloned().unwrap_or(default))
    };
    let uid = match (user.uid, passwd.field(&user.name, 2)) {
        (None, Some(existing)) => existing.clone(),
        (wanted, _) => free_id(wanted, passwd).to_string(),
    };
    let gid = match (user.gid, passwd.field(&user.name, 3)) {
        (Some(gid), _) => gid.to_string(),
        (None, Some(existing)) => existing.clone(),
        // As `useradd` does: a group of the user's own, with the user's number if that is free.
        (None, None) => {
            if group.find(&user.name).is_none() {
                let same = uid.parse().ok().filter(|id| !group.ids().contains(id));
                put_group(
                    group,
                    &Group {
                        name: user.name.clone(),
                        gid: same,
                        members: None,
                    },
                );
            }
            group.field(&user.name, 2).cloned().unwrap_or_default()
        }
    };
    let gecos = keep(passwd, 4, user.gecos.clone(), user.name.clone());
    let home = keep(passwd, 5, user.home.clone(), format!("/home/{}", user.name));
    let shell = keep(passwd, 6, user.shell.clone(), "/bin/sh".into());
    passwd.put(vec![
        user.name.clone(),
        "x".into(),
        uid,
        gid,
        gecos,
        home,
        shell,
    ]);

    let days = |days: Option<u32>| days.map_or_else(String::new, |d| d.to_string());
    shadow.put(vec![
        user.name.clone(),
        user.password.clone().unwrap_or_else(|| "*".into()),
        user.last_change.to_string(),
        user.min_days.to_string(),
        user.max_days.to_string(),
        user.warn_days.to_string(),
        days(user.inactive_days),
        days(user.expire_date),
        String::new(),
    ]);
    for name in &user.groups {
        if group.find(name).is_none() {
            put_group(
                group,
                &Group {
                    name: name.clone(),
                    gid: None,
                    members: None,
                },
            );
        }
        if let Some(members) = group.field(name, 3) {
            let mut list: Vec<&str> = members.split(',').filter(|m| !m.is_empty()).collect();
            if !list.contains(&user.name.as_str()) {
                list.push(&user.name);
                *members = list.join(",");
            }
        }
    }
}
