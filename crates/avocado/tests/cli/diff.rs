//! `avocado diff` of what is elsewhere: a repository on a server, and a device.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use avocado_manifest::Manifest;
use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_tuf::testing::{TestPublisher, extension, image_name, runtime};

use crate::{Ended, Place};

/// Stands for ssh: a device that prints `$DEVICE/answer`, or ends with the status that is there.
const SSH: &str = r#"#!/bin/sh
printf '%s\n' "$*" >>"$DEVICE/asked"
case " $* " in *" -G "*) exit 0 ;; esac
[ ! -e "$DEVICE/status" ] || exit "$(cat "$DEVICE/status")"
exec cat "$DEVICE/answer"
"#;

fn manifest(version: &str, image: &[u8]) -> Manifest {
    let extensions = vec![
        extension("app", version, image),
        extension("base", "1", b"the same"),
    ];
    runtime("dev", version, "2026-01-01T00:00:00Z", extensions)
}

fn with_device(manifest: &Manifest, images: &[&[u8]]) -> Place {
    let place = Place::new();
    place.write("bin/ssh", SSH);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(place.path("bin/ssh"), mode).unwrap();
    let mut answer = String::from_utf8(manifest.to_json().unwrap()).unwrap();
    answer += "-- images\n";
    for image in images {
        answer += &format!("{} images/{}\n", image.len(), image_name(image));
    }
    place.write("device/answer", &answer);
    place
}

fn diff(place: &Place, args: &[&str]) -> Ended {
    let mut path = place.path("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = place.command();
    command
        .env("PATH", path)
        .env("DEVICE", place.path("device"))
        .arg("diff")
        .args(args);
    place.end(&mut command)
}

#[test]
fn a_device_and_a_server_differ_in_images_and_the_device_fetches_what_is_new() {
    let place = with_device(&manifest("1", b"old"), &[b"old", b"the same"]);
    let publisher = TestPublisher::new(place.path("desk"), 1);
    publisher.publish_runtime(
        &manifest("2", b"a newer one"),
        &[b"a newer one", b"the same"],
        jiff::Timestamp::now(),
    );
    let server = TestServer::start(ServeOptions::new(publisher.repository())).unwrap();
    let shown = diff(&place, &["ssh://user@device:2222", &server.url()]).ok();
    insta::assert_snapshot!(shown.stdout, @r"
    WHAT   NAME  OLD     NEW
    image  app   1, 3 B  2, 11 B
    ");
    let expected = "1 image differs; a device fetches 11 B";
    assert!(shown.stderr.starts_with(expected), "{}", shown.stderr);
    let asked = fs::read_to_string(place.path("device/asked")).unwrap();
    assert!(asked.contains("-p 2222 -l user"), "{asked}");
    let same = diff(&place, &["ssh://device", "ssh://device/"]).ok();
    assert!(same.stderr.starts_with("The same"), "{}", same.stderr);
    // The other way round.
    let back = diff(&place, &[&server.url(), "ssh://device", "--output", "json"]).ok();
    assert_eq!(back.documents().last().unwrap()["fetch_bytes"], 3);
}

#[test]
fn a_device_without_a_runtime_and_a_server_without_a_repository_are_told() {
    let place = with_device(&manifest("1", b"old"), &[]);
    let server = TestServer::start(ServeOptions::new(place.path("device"))).unwrap();
    let stderr = diff(&place, &["ssh://device", &server.url()])
        .failed(1)
        .stderr;
    assert!(stderr.contains("is there a repository"), "{stderr}");
    place.write("device/status", "1");
    let stderr = diff(&place, &["ssh://device", "ssh://device"])
        .failed(1)
        .stderr;
    assert!(stderr.contains("device has no active runtime"), "{stderr}");
    fs::remove_file(place.path("device/status")).unwrap();
    place.write("device/answer", "no manifest");
    let stderr = diff(&place, &["ssh://device", "ssh://device"])
        .failed(1)
        .stderr;
    assert!(stderr.contains("no manifest that can be read"), "{stderr}");
    for wrong in [
        "ssh://",
        "ssh://a b",
        "ftp://device",
        "ssh://-oProxyCommand=x",
    ] {
        diff(&place, &[wrong, "ssh://device"]).failed(2);
    }
}
