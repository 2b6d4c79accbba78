//! Users and groups: `/etc/passwd`, `/etc/shadow` and `/etc/group` of an image.

use avocado_project::{Group, Permissions, User};
use std::collections::BTreeSet;

use super::Tree;
use crate::error::Error;

/// Ids that the project does not state are given from here on.
const FIRST_ID: u32 = 1000;

/// One of the three files: lines of fields between colons.
struct AccountFile {
    lines: Vec<Vec<String>>,
}

impl AccountFile {
    fn read(root: &Tree, name: &str) -> Result<Self, Error> {
        let text = root.read(format!("etc/{name}"))?.unwrap_or_default();
        let lines = text.lines().filter(|line| !line.is_empty());
        Ok(AccountFile {
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

    fn write(&self, root: &Tree, name: &str, mode: u32) -> Result<(), Error> {
        let lines: Vec<String> = self.lines.iter().map(|fields| fields.join(":")).collect();
        root.write(format!("etc/{name}"), lines.join("\n") + "\n", mode)
    }
}

/// Writes the users and groups into the `etc` of an image tree. Packaged entries that are not
/// named stay as they are. Answers what there is to tell.
pub(crate) fn apply(root: &Tree, permissions: &Permissions) -> Result<Vec<String>, Error> {
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
fn refuse_shared(kind: &str, name: &str, file: &AccountFile) -> Result<(), Error> {
    let is_it = |fields: &&Vec<String>| fields.first().is_some_and(|field| field == name);
    let id = |fields: &Vec<String>| fields.get(2).and_then(|id| id.parse::<u32>().ok());
    let stated = file.lines.iter().find(is_it).and_then(id);
    let mut others = file.lines.iter().filter(|fields| !is_it(fields));
    match others.find(|fields| stated.is_some() && id(fields) == stated) {
        Some(other) => Err(Error::Invalid(format!(
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

#[cfg(test)]
mod tests {
    use std::fs;

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
        apply(&Tree::open(root.path()).unwrap(), permissions).unwrap();
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
    fn a_stated_number_is_not_given_to_another_group() {
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

    /// The three files after `permissions` were applied to a tree that has `files`.
    fn applied_to(files: &[(&str, &str)], permissions: &Permissions) -> [String; 3] {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        fs::create_dir(&etc).unwrap();
        for (name, text) in files {
            fs::write(etc.join(name), text).unwrap();
        }
        apply(&Tree::open(root.path()).unwrap(), permissions).unwrap();
        ["passwd", "shadow", "group"].map(|f| fs::read_to_string(etc.join(f)).unwrap())
    }

    fn group(name: &str, gid: Option<u32>, members: Option<&[&str]>) -> Group {
        let members = members.map(|list| list.iter().map(|m| (*m).to_owned()).collect());
        Group {
            name: name.into(),
            gid,
            members,
        }
    }

    #[test]
    fn everything_that_is_stated_is_written() {
        let app = User {
            uid: Some(500),
            gid: Some(501),
            gecos: Some("The App".into()),
            home: Some("/srv/app".into()),
            shell: Some("/sbin/nologin".into()),
            password: Some("$6$x".into()),
            last_change: 1,
            min_days: 2,
            max_days: 3,
            warn_days: 4,
            inactive_days: Some(5),
            expire_date: Some(6),
            ..user("app")
        };
        let [passwd, shadow, group] = applied_to(
            &[],
            &Permissions {
                users: vec![app],
                groups: vec![],
            },
        );
        assert_eq!(passwd, "app:x:500:501:The App:/srv/app:/sbin/nologin\n");
        assert_eq!(shadow, "app:$6$x:1:2:3:4:5:6:\n");
        // A stated number names a group that is somewhere else.
        assert_eq!(group, "\n");
    }

    #[test]
    fn what_a_package_says_of_a_user_stays_unless_it_is_stated() {
        let files = [
            (
                "passwd",
                "daemon:x:2:3:Daemon:/sbin:/bin/false\n\nbin:x:1:1::/:\n",
            ),
            ("shadow", "daemon:*:1:0:9:7:::\n"),
            ("group", "daemon:x:3:\n"),
        ];
        let change = |change: fn(&mut User)| {
            let mut daemon = user("daemon");
            change(&mut daemon);
            let [passwd, _, group] = applied_to(
                &files,
                &Permissions {
                    users: vec![daemon],
                    groups: vec![],
                },
            );
            assert_eq!(group, "daemon:x:3:\n");
            let (first, rest) = passwd.split_once('\n').unwrap();
            assert_eq!(rest, "bin:x:1:1::/:\n");
            first.to_owned()
        };
        for (changed, line) in [
            (
                (|_| {}) as fn(&mut User),
                "daemon:x:2:3:Daemon:/sbin:/bin/false",
            ),
            (|u| u.uid = Some(9), "daemon:x:9:3:Daemon:/sbin:/bin/false"),
            (|u| u.gid = Some(9), "daemon:x:2:9:Daemon:/sbin:/bin/false"),
            (
                |u| u.gecos = Some("D".into()),
                "daemon:x:2:3:D:/sbin:/bin/false",
            ),
            (
                |u| u.home = Some("/d".into()),
                "daemon:x:2:3:Daemon:/d:/bin/false",
            ),
            (
                |u| u.shell = Some("/bin/sh".into()),
                "daemon:x:2:3:Daemon:/sbin:/bin/sh",
            ),
        ] {
            assert_eq!(change(changed), line);
        }
    }

    #[test]
    fn a_group_keeps_its_number_and_members_unless_they_are_stated() {
        let files = [("group", "audio:x:29:a,b\nvideo:x:44:c\n")];
        for (wish, expected) in [
            (group("audio", None, None), "audio:x:29:a,b\nvideo:x:44:c\n"),
            (
                group("audio", Some(30), None),
                "audio:x:30:a,b\nvideo:x:44:c\n",
            ),
            (
                group("video", None, Some(&["d", "e"])),
                "audio:x:29:a,b\nvideo:x:44:d,e\n",
            ),
            (
                group("video", None, Some(&[])),
                "audio:x:29:a,b\nvideo:x:44:\n",
            ),
            (
                group("new", None, Some(&["a"])),
                "audio:x:29:a,b\nvideo:x:44:c\nnew:x:1000:a\n",
            ),
        ] {
            let [_, _, text] = applied_to(
                &files,
                &Permissions {
                    users: vec![],
                    groups: vec![wish],
                },
            );
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_new_user_shares_its_number_with_its_group_where_that_is_free() {
        let new = |files: &[(&str, &str)], uid| {
            let app = User { uid, ..user("app") };
            let [passwd, _, group] = applied_to(
                files,
                &Permissions {
                    users: vec![app],
                    groups: vec![],
                },
            );
            let last = |text: &str| text.lines().last().unwrap().to_owned();
            (last(&passwd), last(&group))
        };
        let line = |uid: u32, gid: u32| format!("app:x:{uid}:{gid}:app:/home/app:/bin/sh");
        assert_eq!(new(&[], None), (line(1000, 1000), "app:x:1000:".into()));
        assert_eq!(new(&[], Some(77)), (line(77, 77), "app:x:77:".into()));
        let taken = [
            ("passwd", "a:x:1000:1:::\nb:x:1001:1:::\n"),
            ("group", "a:x:1002:\n"),
        ];
        assert_eq!(new(&taken, None), (line(1002, 1000), "app:x:1000:".into()));
        // A group of that name is there already.
        let there = [("group", "app:x:5:\n")];
        assert_eq!(new(&there, None), (line(1000, 5), "app:x:5:".into()));
    }

    #[test]
    fn a_user_joins_a_group_once() {
        let app = User {
            groups: vec!["users".into(), "users".into()],
            ..user("app")
        };
        let [_, _, group] = applied_to(
            &[("group", "app:x:9:\nusers:x:100:app,b\n")],
            &Permissions {
                users: vec![app],
                groups: vec![],
            },
        );
        assert_eq!(group, "app:x:9:\nusers:x:100:app,b\n");
    }

    #[test]
    fn the_files_are_new_ones_with_their_usual_modes() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        fs::create_dir(&etc).unwrap();
        let outside = root.path().join("outside");
        fs::write(&outside, "of the host:x:0:0:::\n").unwrap();
        symlink("../outside", etc.join("passwd")).unwrap();
        apply(&Tree::open(root.path()).unwrap(), &Permissions::default()).unwrap();
        assert_eq!(
            fs::read_to_string(&outside).unwrap(),
            "of the host:x:0:0:::\n"
        );
        for (name, mode) in [("passwd", 0o644), ("shadow", 0o640), ("group", 0o644)] {
            let metadata = fs::symlink_metadata(etc.join(name)).unwrap();
            assert!(metadata.is_file(), "{name}");
            assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{name}");
        }
    }

    #[test]
    fn a_link_to_a_file_of_the_host_is_an_error() {
        for name in ["passwd", "shadow", "group"] {
            let root = tempfile::tempdir().unwrap();
            let outside = tempfile::NamedTempFile::new().unwrap();
            fs::create_dir(root.path().join("etc")).unwrap();
            let link = root.path().join("etc").join(name);
            std::os::unix::fs::symlink(outside.path(), &link).unwrap();
            let tree = Tree::open(root.path()).unwrap();
            let error = apply(&tree, &Permissions::default()).unwrap_err();
            let said = error.to_string();
            assert!(said.ends_with(&format!("etc/{name}")), "{said}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        for name in ["passwd", "shadow", "group"] {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("etc").join(name)).unwrap();
            let tree = Tree::open(root.path()).unwrap();
            let error = apply(&tree, &Permissions::default()).unwrap_err();
            assert!(
                error.to_string().ends_with(&format!("etc/{name}")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_number_that_is_taken_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("passwd"), "www:x:33:33::/:/bin/sh\n").unwrap();
        fs::write(etc.join("group"), "www:x:33:\n").unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let with = |name: &str, uid, groups| Permissions {
            users: vec![User { uid, ..user(name) }],
            groups,
        };
        let said = |permissions| apply(&tree, &permissions).unwrap_err().to_string();
        let user = said(with("app", Some(33), vec![]));
        assert!(user.starts_with(
            "user `app` of permissions has the number 33, which is that of user `www`"
        ));
        let of_group = said(with("app", None, vec![group("gpio", Some(33), None)]));
        assert!(of_group.starts_with("group `gpio` of permissions has the number 33"));
        // Its own number is nothing new.
        apply(
            &tree,
            &with("www", Some(33), vec![group("www", Some(33), None)]),
        )
        .unwrap();
    }

    #[test]
    fn an_open_root_and_a_group_that_is_not_there_are_told() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let open = User {
            password: Some(String::new()),
            ..user("root")
        };
        let app = User {
            gid: Some(501),
            ..user("app")
        };
        let users = vec![open, app, user("plain")];
        let told = apply(
            &tree,
            &Permissions {
                users,
                groups: vec![],
            },
        )
        .unwrap();
        assert!(
            told[0].starts_with("root logs in without a password"),
            "{told:?}"
        );
        assert!(
            told[1].starts_with("user `app` has the group number 501"),
            "{told:?}"
        );
        assert_eq!(told.len(), 2);
    }
}
