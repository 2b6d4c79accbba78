//! Users and groups as images have them.

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
    assert!(
        user.starts_with(
            "user `app` of permissions has the number 33, which is that of user `www`"
        )
    );
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
