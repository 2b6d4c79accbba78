//! Several VMs of one user.

use std::fs;

use serde_json::Value;

use crate::Place;

/// A VM of that name, which was started once.
fn vm(place: &Place, name: &str) {
    let dir = place.path(&format!("home/.avocado/vms/{name}"));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("var.btrfs"), vec![1; 1 << 20]).unwrap();
    place.image(&format!("image of {name}"), "7");
    let image = place.path(&format!("image of {name}"));
    fs::write(dir.join("artifact-dir"), image.to_str().unwrap()).unwrap();
}

fn names(list: &Value) -> Vec<(&str, &str)> {
    let vms = list["vms"].as_array().unwrap();
    vms.iter()
        .map(|vm| (vm["name"].as_str().unwrap(), vm["state"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_name_chooses_the_vm_and_a_list_tells_all() {
    let place = Place::new();
    assert_eq!(
        place.run(&["list"]).ok().stdout,
        "there is no VM; `avocado vm start` makes one\n"
    );
    assert!(!place.path("home").exists(), "who only looks makes nothing");
    for line in [
        &["--name", "web", "status"][..],
        &["status", "--name", "web"],
    ] {
        let status = place.run(line).ok().stdout;
        assert!(
            status.contains("[PLACE]/home/.avocado/vms/web\n"),
            "{status}"
        );
    }
    let bad = place.run(&["--name", "../web", "status"]).failed(2).stderr;
    assert!(bad.contains("cannot name a VM"), "{bad}");
    let mut command = place.command(&["--name", "web", "status"]);
    command.env("AVOCADO_VM_STATE_DIR", place.path("elsewhere"));
    insta::assert_snapshot!(place.end(&mut command).failed(2).stderr, @r"
    error: --name says `web`, and AVOCADO_VM_STATE_DIR names a directory: which VM is meant?
    hint: state one of the two
    ");

    // Sockets need a short path.
    let mut command = place.command(&["--name", &"x".repeat(32), "status"]);
    command.env("HOME", place.path(&"h".repeat(60)));
    let long = place.end(&mut command).failed(1).stderr;
    assert!(
        long.contains("sockets in it allow") && long.contains("--name"),
        "{long}"
    );

    fs::create_dir_all(place.vm("")).unwrap();
    vm(&place, "web");
    let list = place.json(&["list"]);
    assert_eq!(list["version"], 1);
    assert_eq!(names(&list), [("default", "stopped"), ("web", "stopped")]);
    assert_eq!(list["vms"][1]["image_version"], "7");
    assert!(list["vms"][1]["disk_bytes"].as_u64().unwrap() >= 1 << 20);
    let table = place.run(&["list"]).ok().stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(
        table
            .lines()
            .nth(2)
            .unwrap()
            .starts_with("web      stopped"),
        "{table}"
    );

    // One that runs.
    let asked = place.pretend_to_run();
    let list = place.json(&["list"]);
    assert_eq!(names(&list), [("default", "running"), ("web", "stopped")]);
    let refused = place.run(&["delete", "default", "--yes"]).failed(1).stderr;
    insta::assert_snapshot!(refused, @r"
    error: the VM `default` runs
    hint: stop it first: `avocado vm --name default stop`; --force ends it without asking the guest
    ");
    assert!(place.vm("").exists());
    drop(asked);
}

#[test]
fn a_vm_is_deleted_when_that_is_meant() {
    let place = Place::new();
    vm(&place, "a");
    vm(&place, "b");
    insta::assert_snapshot!(place.run(&["delete", "c", "--yes"]).failed(1).stderr, @r"
    error: there is no VM `c`
    hint: `avocado vm list` tells which there are
    ");
    let twice = place.run(&["--name", "a", "delete", "a"]).failed(2).stderr;
    assert!(twice.contains("stated twice"), "{twice}");

    // Asked, and not answered with its name.
    let mut command = place.command(&["delete", "a"]);
    command.write_stdin("no\n");
    let asked = place.end(&mut command).failed(1).stderr;
    assert!(
        asked.contains("Type `a` to go on") && asked.contains("nothing was removed"),
        "{asked}"
    );
    assert!(place.path("home/.avocado/vms/a").exists());

    // Saved memory is given up only by force.
    fs::rename(
        place.path("home/.avocado/vms/a"),
        place.path("home/.avocado/vm"),
    )
    .unwrap();
    place.save_memory();
    let saved = place.run(&["delete", "default", "--yes"]).failed(1).stderr;
    assert!(
        saved.contains("is saved") && saved.contains("--force"),
        "{saved}"
    );
    let gone = place.run(&["delete", "default", "--yes", "--force"]).ok();
    assert!(
        gone.stderr.contains("the VM `default` is gone"),
        "{}",
        gone.stderr
    );
    assert!(!place.path("home/.avocado/vm").exists());

    // A link is not followed.
    std::os::unix::fs::symlink(
        place.path("home/.avocado/vms/b"),
        place.path("home/.avocado/vms/link"),
    )
    .unwrap();
    place.run(&["delete", "link", "--yes"]).failed(1);
    assert!(place.path("home/.avocado/vms/b/var.btrfs").exists());
    place.run(&["delete", "b", "-y"]).ok();
    assert!(!place.path("home/.avocado/vms/b").exists());
}
