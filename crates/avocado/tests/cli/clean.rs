use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::{Place, there};

fn built() -> Place {
    let place = Place::new();
    place.run(&["init", "--target", "qemux86-64"]).ok();
    for file in [
        ".avocado/state/qemux86-64/.stamps/rootfs/install.stamp",
        ".avocado/state/qemux86-64/rootfs/etc/os-release",
        ".avocado/state/other/.stamps/rootfs/install.stamp",
        ".avocado/provision-dev.state",
    ] {
        place.write(file, "x");
    }
    place
}

#[test]
fn the_state_goes_and_the_rest_stays() {
    let place = built();
    place.run(&["clean"]).ok();
    assert!(!there(place.path(".avocado/state")));
    assert!(there(place.path(".avocado/provision-dev.state")));
    assert!(there(place.path("avocado.yaml")) && there(place.path("overlay/usr/bin/app")));
    let again = place.run(&["clean"]).ok();
    assert_eq!(again.stderr, "Nothing to remove\n");
}

#[test]
fn only_the_stamps_of_the_target() {
    let place = built();
    place.run(&["clean", "--stamps"]).ok();
    assert!(!there(place.path(".avocado/state/qemux86-64/.stamps")));
    assert!(there(
        place.path(".avocado/state/qemux86-64/rootfs/etc/os-release")
    ));
    assert!(there(place.path(".avocado/state/other/.stamps")));
}

#[test]
fn volumes_can_be_kept() {
    let place = built();
    place.run(&["clean", "--skip-volumes"]).ok();
    assert!(there(place.path(".avocado/state/qemux86-64/.stamps")));
}

#[test]
fn another_directory_can_be_named() {
    let place = Place::new();
    place.write("p/.avocado/state/x/y", "");
    place.write(".avocado/state/x/y", "");
    place.run(&["clean", "p"]).ok();
    assert!(!there(place.path("p/.avocado/state")));
    assert!(there(place.path(".avocado/state")));
}

#[test]
fn links_are_removed_and_not_followed() {
    let place = built();
    place.write("precious/file", "x");
    symlink(
        place.path("precious"),
        place.path(".avocado/state/qemux86-64/link"),
    )
    .unwrap();
    place.run(&["clean"]).ok();
    assert!(there(place.path("precious/file")));

    // The state itself is a link.
    symlink(place.path("precious"), place.path(".avocado/state")).unwrap();
    place.run(&["clean"]).ok();
    assert!(!there(place.path(".avocado/state")));
    assert!(there(place.path("precious/file")));
}

#[test]
fn a_way_out_of_the_project_is_refused() {
    let place = Place::new();
    place.run(&["init", "--target", "qemux86-64"]).ok();
    place.write("precious/state/qemux86-64/.stamps/file", "x");
    let file = place.path("precious/state/qemux86-64/.stamps/file");

    symlink(place.path("precious"), place.path(".avocado")).unwrap();
    for args in [&["clean"][..], &["clean", "--stamps"]] {
        let ended = place.run(args).failed(1);
        assert!(
            ended.stderr.contains(".avocado is a link"),
            "{}",
            ended.stderr
        );
        assert!(there(&file));
    }

    fs::remove_file(place.path(".avocado")).unwrap();
    fs::create_dir(place.path(".avocado")).unwrap();
    symlink(place.path("precious/state"), place.path(".avocado/state")).unwrap();
    place.run(&["clean", "--stamps"]).failed(1);
    assert!(there(&file));
}

#[test]
fn directories_without_write_permission_go_too() {
    let place = built();
    let dir = place.path(".avocado/state/qemux86-64/rootfs/etc");
    fs::set_permissions(&dir, Permissions::from_mode(0o555)).unwrap();
    place.run(&["clean"]).ok();
    assert!(!there(place.path(".avocado/state")));
}

#[test]
fn what_an_interrupted_clean_left_goes_with_the_next() {
    let place = built();
    place.write(".avocado/state.removing/x", "x");
    place.run(&["clean"]).ok();
    assert!(!there(place.path(".avocado/state.removing")) && !there(place.path(".avocado/state")));
}

#[test]
fn nothing_is_taken_from_a_running_build() {
    let place = built();
    place.write(".avocado/state/.lock", "");
    let lock = File::open(place.path(".avocado/state/.lock")).unwrap();
    lock.lock().unwrap();
    for args in [&["clean"][..], &["clean", "--stamps"]] {
        let ended = place.run(args).failed(1);
        assert!(ended.stderr.contains("is in use"), "{}", ended.stderr);
    }
    assert!(there(place.path(".avocado/state/qemux86-64/.stamps")));
    drop(lock);
    place.run(&["clean"]).ok();
}

#[test]
fn a_project_that_cannot_be_read_can_be_cleaned() {
    let place = built();
    place.write("avocado.yaml", "runtimes: [");
    let ended = place.run(&["clean"]).ok();
    assert!(ended.stderr.contains("warning: "), "{}", ended.stderr);
    assert!(!there(place.path(".avocado/state")));
    // What needs the project says so.
    place.run(&["clean", "--stamps"]).failed(1);
}

#[test]
fn unlocking_clears_the_pins_of_the_target() {
    let place = built();
    let lock = r#"{
  "version": 7,
  "targets": {
    "other": {"rootfs": {"bash": "5-1.x86_64"}},
    "qemux86-64": {"rootfs": {"bash": "5-1.x86_64"}}
  }
}
"#;
    place.write("avocado.lock", lock);
    place.run(&["clean", "--skip-volumes"]).ok();
    assert_eq!(
        fs::read_to_string(place.path("avocado.lock")).unwrap(),
        lock
    );

    place.run(&["clean", "--skip-volumes", "--unlock"]).ok();
    let text = fs::read_to_string(place.path("avocado.lock")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["targets"]["other"]["rootfs"]["bash"], "5-1.x86_64");
    assert!(json["targets"]["qemux86-64"]["rootfs"].is_null(), "{text}");
    assert!(there(place.path(".avocado/state")));
}
