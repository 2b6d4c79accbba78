//! `avocado sbom`, `diff` and `scan`, on bills that are there. What is read from images is tested with
//! the real tools (`tests/tests/sbom.rs`).

use serde_json::{Value, json};

use crate::Place;

/// A bill of a runtime with one extension, whose package has this version.
fn bill(version: &str, digest: &str) -> String {
    let property = |name: &str, value: &str| json!({"name": name, "value": value});
    let hashes = |digest: &str| json!([{"alg": "SHA-256", "content": digest}]);
    json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{
        "type": "firmware", "name": "app", "version": version, "hashes": hashes(digest),
        "properties": [property("avocado:image", "extension"), property("avocado:size", "4096")],
        "components": [{
            "type": "library", "name": "libhello", "version": format!("{version}-r0"),
            "purl": format!("pkg:rpm/avocado/libhello@{version}-r0?arch=x&upstream=hello-{version}-r0.src.rpm"),
            "components": [{
                "type": "file", "name": "/usr/bin/hello", "hashes": hashes(digest),
                "properties": [property("avocado:size", "12")]
            }]
        }]
    }]})
    .to_string()
}

fn with_bills() -> Place {
    let place = Place::new();
    place.write("old.json", &bill("1.0", "aa"));
    place.write("new.json", &bill("1.1", "bb"));
    place
}

fn advisory(ecosystem: &str, fixed: &str) -> String {
    json!({"id": "A-1", "aliases": ["CVE-2026-0001"], "affected": [{
        "package": {"ecosystem": ecosystem, "name": "hello"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]}]})
    .to_string()
}

/// What a run said at its end.
fn complete(stdout: &str) -> Value {
    serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
}

#[test]
fn two_bills_differ_in_images_packages_and_files() {
    let place = with_bills();
    let shown = place.run(&["diff", "old.json", "new.json"]).ok();
    insta::assert_snapshot!("bill-diff", shown.stdout);
    let expected = "1 image, 1 package and 1 file differ; a device fetches 4.0 KiB\n";
    assert_eq!(shown.stderr, expected);
    let same = place.run(&["diff", "old.json", "old.json"]).ok();
    assert_eq!(
        (same.stdout.as_str(), same.stderr.as_str()),
        ("", "The same\n")
    );
    let json = place
        .run(&["diff", "old.json", "new.json", "--output", "json"])
        .ok();
    let complete = complete(&json.stdout);
    assert_eq!(complete["fetch_bytes"], 4096);
    let package = &complete["packages"][0];
    assert_eq!(
        (&package["old"], &package["new"]),
        (&json!("1.0-r0"), &json!("1.1-r0"))
    );
}

#[test]
fn the_exit_code_says_whether_something_is_open() {
    let place = with_bills();
    place.write("db/a.json", &advisory("Avocado", "1.1-r0"));
    let scan = |arguments: &[&str]| {
        let all = [&["scan", "--db", "db"], arguments].concat();
        place.run(&all)
    };
    let found = scan(&["--sbom", "old.json"]);
    assert_eq!(found.code, Some(3), "{}", found.stderr);
    insta::assert_snapshot!("bill-scan", found.stdout);
    assert_eq!(scan(&["--sbom", "new.json"]).code, Some(0));
    // What Debian mended in a revision of its own is not mended here.
    place.write("debian/a.json", &advisory("Debian:13", "1.1-1+deb13u1"));
    let found = place.run(&["scan", "--db", "debian", "--sbom", "new.json"]);
    assert_eq!(found.code, Some(3), "{}", found.stderr);
    insta::assert_snapshot!("bill-scan-revision", found.stdout);
    // What the new one does not have any more is told, and is no reason to stop.
    let gone = scan(&["--diff", "old.json", "new.json", "--output", "json"]);
    assert_eq!(gone.code, Some(0), "{}", gone.stderr);
    assert_eq!(complete(&gone.stdout)["gone"][0]["id"], "A-1");
    assert_eq!(scan(&["--diff", "new.json", "old.json"]).code, Some(3));

    // To be decided, and decided.
    let written = scan(&["--sbom", "old.json", "--write-vex", "vex.json"]);
    assert_eq!(written.code, Some(3));
    assert_eq!(
        scan(&["--sbom", "old.json", "--vex", "vex.json"]).code,
        Some(3)
    );
    let text = std::fs::read_to_string(place.path("vex.json")).unwrap();
    place.write(
        "vex.json",
        &text.replace("under_investigation", "not_affected"),
    );
    let settled = scan(&["--sbom", "old.json", "--vex", "vex.json"]);
    assert_eq!(settled.code, Some(0), "{}", settled.stderr);
    assert!(
        settled.stdout.contains("not affected"),
        "{}",
        settled.stdout
    );
}

#[test]
fn what_could_find_nothing_is_no_good_end() {
    let place = with_bills();
    let scan = |arguments: &[&str]| {
        let ended = place.run(&[&["scan", "--sbom", "old.json", "--db", "db"], arguments].concat());
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        ended.stderr
    };
    assert!(scan(&[]).contains("put OSV's export"));
    std::fs::create_dir(place.path("db")).unwrap();
    assert!(scan(&[]).contains("has no advisories"));
    place.write("db/a.json", &advisory("Debian:12", "1"));
    place.write("db/b.json", &advisory("Debian:13", "1"));
    assert!(scan(&[]).contains("--ecosystem NAME"));
    let other = scan(&["--ecosystem", "Debian:14"]);
    assert!(other.contains("Debian:12, Debian:13"), "{other}");
    place.write("vex.json", "{}");
    let vex = scan(&["--ecosystem", "Debian:13", "--vex", "vex.json"]);
    assert!(vex.contains("OpenVEX"), "{vex}");
    place.write("old.json", "{}");
    assert!(scan(&[]).contains("neither CycloneDX nor SPDX"));
}

#[test]
fn advisories_are_those_of_the_project_that_is_named() {
    let place = with_bills();
    place
        .run(&["init", "project", "--target", "qemux86-64"])
        .ok();
    let advisories = "project/.avocado/advisories/a.json";
    place.write(advisories, &advisory("Avocado", "1.1-r0"));
    let config = ["-C", "project/avocado.yaml"];
    for arguments in [
        &["--sbom", "old.json"][..],
        &["--diff", "new.json", "old.json"],
    ] {
        let ended = place.run(&[&["scan"], arguments, &config].concat());
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        let ended = place.run(&[&["scan"], arguments].concat());
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    }
    // Without a project: beside the bills.
    place.write(".avocado/advisories/a.json", &advisory("Avocado", "1.1-r0"));
    let ended = place.run(&["scan", "--sbom", "old.json"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
}

#[test]
#[cfg(target_os = "linux")]
fn a_bill_is_of_what_was_built() {
    let place = Place::new();
    place.run(&["init", "--target", "qemux86-64"]).ok();
    let ended = place.run(&["sbom"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("run `avocado build -r dev`"),
        "{}",
        ended.stderr
    );
}
