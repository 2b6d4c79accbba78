use std::fs;

use avocado_test_server::{Fault, FaultRule};
use serde_json::{Value, json};

use crate::{Place, files};

#[test]
fn an_update_is_checked_asked_for_and_installed() {
    let place = Place::new();
    let server = place.serve();
    place.publish("1.0", json!({}));
    let check = place
        .update(&server, &["--check", "--output", "json"])
        .ok()
        .stdout;
    let check: Value = serde_json::from_str(&check).unwrap();
    let expected = json!({
        "channel": "stable",
        "installed": null,
        "remote": "1.0",
        "released_at": "2026-06-01T00:00:00Z",
        "update_available": true,
    });
    assert_eq!(check, expected);
    assert!(!place.vm("install/manifest.json").exists());

    let refused = place.update(&server, &[]).failed(1).stderr;
    assert!(
        refused.ends_with("error: nothing was changed\nhint: -y does not ask\n"),
        "{refused}"
    );
    let done = place.update(&server, &["-y", "--output", "json"]).ok();
    let documents = done.documents();
    let events: Vec<&str> = documents
        .iter()
        .map(|d| d["event"].as_str().unwrap())
        .collect();
    assert_eq!(events.first(), Some(&"download_started"));
    assert!(events.contains(&"download_progress") && events.contains(&"download_completed"));
    let last = documents.last().unwrap();
    assert_eq!(
        (&last["event"], &last["installed"], &last["updated"]),
        (&json!("complete"), &json!("1.0"), &json!(true))
    );
    assert_eq!(place.installed(), "1.0");
    assert_eq!(
        files(&place.vm("install")),
        [
            "initramfs.img",
            "kernel.img",
            "manifest.json",
            "rootfs.img",
            "staging",
            "var.img"
        ]
    );
    let again = place.update(&server, &[]).ok().stderr;
    assert_eq!(again, "version 1.0 is the newest, and is installed\n");

    place.publish("2.0", json!({}));
    let check = place.update(&server, &["--check"]).ok().stdout;
    assert_eq!(
        check,
        "version 2.0 can be installed; version 1.0 is there\n"
    );
    let mut command = place.update_command(&server.url(), &[]);
    let asked = place.end(command.write_stdin("y\n")).ok().stderr;
    assert!(
        asked.contains("Install version 2.0 of the VM's image in the place of 1.0?"),
        "{asked}"
    );
    assert_eq!(place.installed(), "2.0");
    let seed = fs::read(place.vm("install/var.img")).unwrap();
    assert_eq!(seed, b"var of 1.0", "what a disk starts from stays");
}

#[test]
fn an_older_version_has_to_be_asked_for() {
    let place = Place::new();
    let server = place.serve();
    place.publish("2.0", json!({}));
    place.update(&server, &["-y"]).ok();
    place.publish("1.0", json!({}));
    let said = place.update(&server, &["--check"]).ok().stdout;
    assert_eq!(
        said,
        "the channel has version 1.0, and 2.0, which is newer, is installed\n"
    );
    let refused = place.update(&server, &["-y"]).failed(1).stderr;
    insta::assert_snapshot!(refused, @r"
    error: the channel has version 1.0 of the image, and 2.0, which is newer, is installed
    hint: `avocado vm update --to VERSION` installs that version all the same
    ");
    assert_eq!(place.installed(), "2.0");
    place.update(&server, &["-y", "--to", "3.0"]).failed(1);
    place.update(&server, &["-y", "--to", "1.0"]).ok();
    assert_eq!(place.installed(), "1.0");
}

#[test]
fn a_channel_is_signed_under_the_root_that_the_user_names() {
    let place = Place::new();
    let server = place.serve();
    place.publish("1.0", json!({}));
    let seed = [1; 32];
    let key = avocado_tuf::SigningKey::from_seed(&seed).unwrap();
    let root = avocado_tuf::writer::root(&key, jiff::Timestamp::now()).unwrap();
    fs::create_dir_all(place.path("home/.avocado")).unwrap();
    fs::write(place.path("home/.avocado/root.json"), root).unwrap();
    fs::write(
        place.path("home/.avocado/config.yaml"),
        "vm:\n  channel_root: root.json\n",
    )
    .unwrap();
    let refused = place.update(&server, &["-y"]).failed(1).stderr;
    let repository = format!("{}/stable/avocado-qemux86-64", server.url());
    let expected = format!("error: the signatures of the channel at {repository} are not trusted");
    assert!(refused.starts_with(&expected), "{refused}");
}

#[test]
fn an_update_survives_a_bad_network() {
    let place = Place::new();
    let server = place.serve();
    place.publish("1.0", json!({}));
    server
        .faults()
        .add(FaultRule::new(Fault::Cut(4), "*.img").first(3));
    place.update(&server, &["-y"]).ok();
    assert_eq!(place.installed(), "1.0");

    place.publish("2.0", json!({}));
    server
        .faults()
        .add(FaultRule::new(Fault::Cut(0), "*/rootfs.img"));
    let cut = place.update(&server, &["-y"]).failed(1).stderr;
    assert!(cut.contains("error: "), "{cut}");
    assert_eq!(place.installed(), "1.0");
    let url = server.url();
    server.stop();
    let dead = place
        .end(&mut place.update_command(&url, &["-y"]))
        .failed(1)
        .stderr;
    assert!(
        dead.starts_with(&format!("error: cannot fetch {url}/stable.json\n")),
        "{dead}"
    );
    assert!(dead.contains("\nhint: check the network"), "{dead}");
    let dead = place
        .end(&mut place.update_command(&url, &["--check"]))
        .failed(1);
    assert_eq!(dead.stdout, "", "who could not ask does not know");
    assert_eq!(place.installed(), "1.0");
}

#[test]
fn an_update_that_needs_a_newer_program_is_an_error() {
    let place = Place::new();
    let server = place.serve();
    place.publish("1.0", json!({"min_cli_version": "99.0.0"}));
    for args in [&["-y"][..], &["--check"]] {
        let refused = place.update(&server, args).failed(1).stderr;
        assert!(
            refused.contains("needs avocado 99.0.0 or later"),
            "{refused}"
        );
        assert!(
            refused.contains("\nhint: update avocado first\n"),
            "{refused}"
        );
    }
}

#[test]
fn the_channel_is_that_of_the_user() {
    let place = Place::new();
    let server = place.serve();
    place.publish("1.0", json!({}));
    fs::rename(place.path("www/stable.json"), place.path("www/edge.json")).unwrap();
    let missing = place.update(&server, &["--check"]).failed(1).stderr;
    let missing = missing.replace(&server.url(), "[URL]");
    insta::assert_snapshot!(missing, @r"
    error: cannot fetch [URL]/stable.json
      caused by: there is no such file (status 404)
    hint: there may be no such channel (--channel, or `vm.channel` of ~/.avocado/config.yaml) or no such base URL (AVOCADO_VM_CHANNEL_URL_BASE)
    ");
    place
        .update(&server, &["--check", "--channel", "edge"])
        .ok();
    fs::create_dir_all(place.path("home/.avocado")).unwrap();
    fs::write(
        place.path("home/.avocado/config.yaml"),
        "vm:\n  channel: edge\n  dir: /x\n",
    )
    .unwrap();
    place.update(&server, &["--check"]).ok();
    place
        .update(&server, &["--check", "--channel", "../x"])
        .failed(1);
}

/// The next run finishes what a crash interrupted after the download, without the network.
#[test]
fn an_interrupted_installation_is_finished_by_the_next_command() {
    let place = Place::new();
    let server = place.serve();
    place.publish("1.0", json!({}));
    place.update(&server, &["-y"]).ok();
    let image = place.image("new", "2.0");
    let staging = place.vm("install/staging/2.0");
    fs::create_dir_all(&staging).unwrap();
    for artifact in image.artifacts.values() {
        fs::copy(
            place.path("new").join(&artifact.file),
            staging.join(&artifact.file),
        )
        .unwrap();
    }
    fs::write(staging.join("manifest.json"), image.to_json().unwrap()).unwrap();
    fs::write(staging.join(".ready"), "").unwrap();
    // As after the first rename.
    fs::rename(staging.join("kernel.img"), place.vm("install/kernel.img")).unwrap();
    server.stop();
    let start = place
        .run(&["start", "--vm-source", "nowhere"])
        .failed(1)
        .stderr;
    assert!(
        start.starts_with("finishing an update that was interrupted\n"),
        "{start}"
    );
    assert_eq!(place.installed(), "2.0");
    assert_eq!(files(&place.vm("install/staging")), [".lock"]);
    assert_eq!(
        fs::read(place.vm("install/rootfs.img")).unwrap(),
        b"rootfs of 2.0"
    );
}
