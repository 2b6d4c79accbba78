//! Users and groups: `/etc/passwd`, `/etc/shadow` and `/etc/group` of an image.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use avocado_project::{Group, Permissions, User};

use crate::error::At as _;
use crate::{Error, tree};

/// Ids that nobody asked for are given from here on.
const FIRST_ID: u32 = 1000;

/// One of the three files: lines of fields between colons.
struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    fn read(path: &Path) -> Result<Self, Error> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e).at("read", path),
        };
        let lines = text.lines().filter(|line| !line.is_empty());
        Ok(Table {
            lines: lines
                .map(|line| line.split(':').map(ToOwned::to_owned).collect())
                .collect(),
        })
    }

    fn find(&mut self, name: &str) -> Option<&mut Vec<String>> {
        self.lines
            .iter_mut()
            .find(|fields| fields.first().is_some_and(|f| f == name))
    }

    fn field(&mut self, name: &str, index: usize) -> Option<&mut String> {
        self.find(name)?.get_mut(index)
    }

    /// Replaces the line of that name, or adds one.
    fn put(&mut self, fields: Vec<String>) {
        match fields.first().cloned().and_then(|name| self.find(&name)) {
            Some(line) => *line = fields,
            None => self.lines.push(fields),
        }
    }

    fn ids(&self) -> BTreeSet<u32> {
        let ids = self
            .lines
            .iter()
            .filter_map(|fields| fields.get(2)?.parse().ok());
        ids.collect()
    }

    fn write(&self, path: &Path, mode: u32) -> Result<(), Error> {
        let lines: Vec<String> = self.lines.iter().map(|fields| fields.join(":")).collect();
        tree::clear(path)?;
        tree::write(path, lines.join("\n") + "\n")?;
        tree::set_mode(path, mode)
    }
}

/// Writes the users and groups into the `etc` of an image tree. Packaged entries that are not
/// named stay as they are.
pub(crate) fn apply(root: &Path, permissions: &Permissions) -> Result<(), Error> {
    let path = |name: &str| root.join("etc").join(name);
    let mut passwd = Table::read(&path("passwd"))?;
    let mut shadow = Table::read(&path("shadow"))?;
    let mut group = Table::read(&path("group"))?;
    // Those with a number of their own first: nobody else may be given it.
    let (fixed, free): (Vec<_>, Vec<_>) = permissions.groups.iter().partition(|g| g.gid.is_some());
    for g in fixed.into_iter().chain(free) {
        put_group(&mut group, g);
    }
    let (fixed, free): (Vec<_>, Vec<_>) = permissions.users.iter().partition(|u| u.uid.is_some());
    for user in fixed.into_iter().chain(free) {
        put_user(&mut passwd, &mut shadow, &mut group, user);
    }
    passwd.write(&path("passwd"), 0o644)?;
    shadow.write(&path("shadow"), 0o640)?;
    group.write(&path("group"), 0o644)
}

fn free_id(wanted: Option<u32>, table: &Table) -> u32 {
    let taken = table.ids();
    wanted.unwrap_or_else(|| {
        (FIRST_ID..)
            .find(|id| !taken.contains(id))
            .unwrap_or(FIRST_ID)
    })
}

fn put_group(table: &mut Table, g: &Group) {
    let gid = match (g.gid, table.field(&g.name, 2)) {
        (None, Some(existing)) => existing.clone(),
        (wanted, _) => free_id(wanted, table).to_string(),
    };
    let members = match (&g.members, table.field(&g.name, 3)) {
        (Some(members), _) => members.join(","),
        (None, Some(existing)) => existing.clone(),
        (None, None) => String::new(),
    };
    table.put(vec![g.name.clone(), "x".into(), gid, members]);
}

fn put_user(passwd: &mut Table, shadow: &mut Table, group: &mut Table, user: &User) {
    let keep = |passwd: &mut Table, index: usize, wanted: Option<String>, default: String| {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> User {
        User {
            name: name.into(),
            uid: None,
            gid: None,
            gecos: None,
            home: None,
            shell: None,
            password: None,
            groups: Vec::new(),
            last_change: 19000,
            min_days: 0,
            max_days: 99999,
            warn_days: 7,
            inactive_days: None,
            expire_date: None,
        }
    }

    fn applied(permissions: &Permissions) -> [String; 3] {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        fs::create_dir(&etc).unwrap();
        fs::write(
            etc.join("passwd"),
            "root:x:0:0:root:/root:/bin/bash\nsync:x:4:65534:sync:/bin:/bin/sync\n",
        )
        .unwrap();
        fs::write(
            etc.join("shadow"),
            "root:*:20000:0:99999:7:::\nsync:*:20000:0:99999:7:::\n",
        )
        .unwrap();
        fs::write(etc.join("group"), "root:x:0:\nsudo:x:27:\nusers:x:100:a\n").unwrap();
        apply(root.path(), permissions).unwrap();
        ["passwd", "shadow", "group"].map(|f| fs::read_to_string(etc.join(f)).unwrap())
    }

    #[test]
    fn the_root_user_gets_its_password_and_keeps_the_rest() {
        let root = User {
            password: Some(String::new()),
            ..user("root")
        };
        let [passwd, shadow, group] = applied(&Permissions {
            users: vec![root],
            groups: vec![],
        });
        assert!(passwd.starts_with("root:x:0:0:root:/root:/bin/bash\nsync:"));
        assert!(shadow.starts_with("root::19000:0:99999:7:::\nsync:*:20000"));
        assert_eq!(group, "root:x:0:\nsudo:x:27:\nusers:x:100:a\n");
    }

    #[test]
    fn a_new_user_gets_a_group_and_joins_others() {
        let app = User {
            groups: vec!["sudo".into(), "users".into(), "new".into()],
            ..user("app")
        };
        let [passwd, shadow, group] = applied(&Permissions {
            users: vec![app],
            groups: vec![Group {
                name: "gpio".into(),
                gid: Some(1000),
                members: Some(vec!["a".into()]),
            }],
        });
        assert!(
            passwd.ends_with("app:x:1000:1001:app:/home/app:/bin/sh\n"),
            "{passwd}"
        );
        assert!(shadow.ends_with("app:*:19000:0:99999:7:::\n"), "{shadow}");
        assert_eq!(
            group,
            "root:x:0:\nsudo:x:27:app\nusers:x:100:a,app\ngpio:x:1000:a\napp:x:1001:\nnew:x:1002:app\n"
        );
    }

    #[test]
    fn a_number_that_somebody_asked_for_is_given_to_nobody_else() {
        let group = |name: &str, gid| Group {
            name: name.into(),
            gid,
            members: None,
        };
        let [_, _, groups] = applied(&Permissions {
            users: vec![],
            groups: vec![group("other", None), group("fixed", Some(1000))],
        });
        assert!(groups.contains("fixed:x:1000:\n"), "{groups}");
        assert!(groups.contains("other:x:1001:\n"), "{groups}");
    }
}
