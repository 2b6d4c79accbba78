use std::fs;
use std::os::unix::fs::symlink;

use super::super::places::{GuestPath, HostPlaces, NotShared};

#[test]
fn a_path_is_what_it_means_to_the_client_or_refused() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().canonicalize().unwrap();
    let workspace = root.join("ws");
    fs::create_dir_all(workspace.join("a/b")).unwrap();
    fs::create_dir_all(root.join("other")).unwrap();
    fs::write(root.join("docker.sock"), "").unwrap();
    symlink(&workspace, root.join("in")).unwrap();
    symlink(root.join("other"), workspace.join("out")).unwrap();
    symlink(workspace.join("a"), workspace.join("same")).unwrap();
    symlink("nowhere", workspace.join("broken")).unwrap();
    let places = HostPlaces {
        workspace: Some(workspace.clone()),
        sockets: vec![root.join("docker.sock")],
    };
    let find = |path: &str| places.find(&path.replace('~', root.to_str().unwrap()));
    for (path, guest) in [
        ("~/ws", "/run/workspace"),
        ("~/ws/", "/run/workspace"),
        ("~/ws/a/b", "/run/workspace/a/b"),
        ("~/ws//a/./b/../b", "/run/workspace/a/b"),
        ("~/other/../ws/a", "/run/workspace/a"),
        ("~/in", "/run/workspace"),
        ("~/in/a", "/run/workspace/a"),
        // As engines read it: not the parent of where the link leads.
        ("~/ws/out/../a", "/run/workspace/a"),
        // The engine makes it.
        ("~/ws/new/deep", "/run/workspace/new/deep"),
        ("~/in/new: ä", "/run/workspace/new: ä"),
        // As the guest names it.
        ("/run/workspace", "/run/workspace"),
        ("/run/workspace/a/..", "/run/workspace"),
        ("/run/workspace/same/b", "/run/workspace/a/b"),
        ("/run/workspace/out/../a", "/run/workspace/a"),
        ("/run/workspace/new/deep", "/run/workspace/new/deep"),
    ] {
        let found = find(path).unwrap();
        assert_eq!(found, GuestPath::Workspace(guest.to_owned()), "{path}");
    }
    for path in [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/run/./docker.sock",
        "/dev",
        "/dev/kvm",
        "/dev/shm",
        "/proc/1",
        "/sys/fs/cgroup",
        "/lib/modules",
        "/lib/modules/6.1.0",
    ] {
        assert_eq!(find(path).unwrap(), GuestPath::Same, "{path}");
        let none = HostPlaces {
            workspace: None,
            sockets: Vec::new(),
        };
        assert_eq!(none.find(path).unwrap(), GuestPath::Same, "{path}");
    }
    assert_eq!(find("~/docker.sock").unwrap(), GuestPath::Socket);
    for path in [
        "/",
        "~",
        "~/other",
        "~/ws/../other",
        "~/ws/..",
        "~/ws/out",
        "~/ws/out/x",
        "~/wsx",
        "/home",
        "/tmp",
        "/lib",
        "/development",
        "/dev/../etc",
        "/dev/shm/x",
        "/run/workspace/out",
        "/run/workspace/out/x",
        "/run/workspacex",
        "/run/workspace/..",
    ] {
        let why = find(path).unwrap_err();
        assert!(matches!(why, NotShared::Outside { .. }), "{path}: {why}");
        let why = why.to_string();
        let named = path.replace('~', root.to_str().unwrap());
        assert!(why.contains(&format!("cannot see {named}")), "{why}");
        assert!(why.contains("--workspace DIR"), "{why}");
    }
    let why = find("~/ws/out").unwrap_err().to_string();
    assert!(
        why.contains(&format!("({}/other)", root.display())),
        "{why}"
    );
    for path in ["~/ws/broken/x", "/run/workspace/broken"] {
        let why = find(path).unwrap_err();
        assert!(matches!(why, NotShared::Unresolved { .. }), "{why}");
    }
    let why = find("~/docker.sock/x").unwrap_err();
    assert!(matches!(why, NotShared::Unresolved { .. }), "{why}");

    let none = HostPlaces {
        workspace: None,
        sockets: Vec::new(),
    };
    for path in ["/home/me", "/run/workspace"] {
        let why = none.find(path).unwrap_err();
        assert!(matches!(why, NotShared::NoWorkspace(_)), "{why}");
        assert!(why.to_string().contains("--workspace DIR"), "{why}");
    }
}

#[test]
fn places_of_the_guest_are_its_own_also_where_the_workspace_holds_them() {
    let places = |workspace: &str| HostPlaces {
        workspace: Some(workspace.into()),
        sockets: Vec::new(),
    };
    let whole = places("/");
    for path in [
        "/dev/null",
        "/proc/1",
        "/sys",
        "/dev/shm",
        "/run/docker.sock",
    ] {
        assert_eq!(whole.find(path).unwrap(), GuestPath::Same, "{path}");
    }
    let workspace = |path: &str| GuestPath::Workspace(path.to_owned());
    let found = whole.find("/dev/shm/x").unwrap();
    assert_eq!(found, workspace("/run/workspace/dev/shm/x"));
    // The workspace itself is in such a place.
    let found = places("/dev/shm/ws").find("/dev/shm/ws/a").unwrap();
    assert_eq!(found, workspace("/run/workspace/a"));
    let below = places("/sys/kernel");
    let found = below.find("/sys/kernel/new").unwrap();
    assert_eq!(found, workspace("/run/workspace/new"));
    assert_eq!(below.find("/sys/class").unwrap(), GuestPath::Same);
}
