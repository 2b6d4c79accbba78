use std::process::Command;

use crate::Place;

const OLD: &str = r#"{"version": 7, "targets": {"t": {
  "rootfs": {"bash": "5.1-r0.x86_64", "gone": "1-r0.all", "same": "1-r0.all"},
  "extensions": {"app": {"packages": {"hello": "1.0-r0.all"}}},
  "kernel-versions": {"rootfs": "6.12.1"},
  "package-headers": {"rootfs": {
    "bash": {"version": "5.1-r0.x86_64", "digest": "aaaa"},
    "same": {"version": "1-r0.all", "digest": "sha256:0123456789abcdef"}}},
  "repo-snapshot": {"release": "2024", "channel": "edge", "snapshot": "20260101", "created": "a"}}}}
"#;
const NEW: &str = r#"{"version": 7, "targets": {"t": {
  "rootfs": {"bash": "5.2-r0.x86_64", "new.one": "2-r0.all", "same": "1-r0.all"},
  "extensions": {"app": {"packages": {"hello": "1.1-r0.all"}}},
  "kernel-versions": {"rootfs": "6.12.9"},
  "package-headers": {"rootfs": {
    "bash": {"version": "5.2-r0.x86_64", "digest": "bbbb"},
    "same": {"version": "1-r0.all", "digest": "sha256:fedcba9876543210"}}},
  "repo-snapshot": {"release": "2024", "channel": "edge", "snapshot": "20260201", "created": "b"}}}}
"#;

fn git(place: &Place, arguments: &[&str]) {
    let identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
    let mut git = Command::new("git");
    let git = git.args(identity).args(arguments);
    let output = git.current_dir(place.path("")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn project() -> Place {
    let place = Place::new();
    place.run(&["init", "--target", "qemux86-64"]).ok();
    place
}

#[test]
fn two_lock_files_are_compared() {
    let place = project();
    place.write("old.lock", OLD);
    place.write("avocado.lock", NEW);
    let shown = place.run(&["lock", "diff", "old.lock"]).ok();
    insta::assert_snapshot!("lock-diff", shown.stdout);
    assert_eq!(shown.stderr, "7 changes\n");
    let same = place
        .run(&["lock", "diff", "avocado.lock", "avocado.lock"])
        .ok();
    assert_eq!(same.stderr, "The same packages, kernels and snapshots\n");

    let json = place.run(&["lock", "diff", "old.lock", "--output", "json"]);
    let json = json.ok().stdout;
    let complete: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    let first = &complete["changes"][0];
    let expected = serde_json::json!({"target": "t", "kind": "snapshot", "tree": "",
        "name": "snapshot", "old": "20260101", "new": "20260201"});
    assert_eq!(*first, expected);
}

#[test]
fn a_lock_file_is_compared_with_that_of_a_commit() {
    if Command::new("git").arg("--version").output().is_err() {
        let test = "a_lock_file_is_compared_with_that_of_a_commit";
        avocado_test_support::skip(test, "git is not installed");
        return;
    }
    let place = project();
    git(&place, &["init", "--quiet"]);
    let missing = place.run(&["lock", "diff"]);
    assert_ne!(missing.code, Some(0));
    assert!(
        missing.stderr.contains("no avocado.lock at `HEAD`"),
        "{}",
        missing.stderr
    );
    for (text, tag) in [(OLD, "one"), (NEW, "two")] {
        place.write("avocado.lock", text);
        git(&place, &["add", "avocado.lock"]);
        git(&place, &["commit", "--quiet", "-m", tag]);
        git(&place, &["tag", tag]);
    }
    let clean = place.run(&["lock", "diff"]).ok();
    assert_eq!(clean.stderr, "The same packages, kernels and snapshots\n");
    for arguments in [
        &["lock", "diff", "one"][..],
        &["lock", "diff", "HEAD^", "two"],
    ] {
        assert_eq!(place.run(arguments).ok().stderr, "7 changes\n");
    }
    let option = place.run(&["lock", "diff", "--", "--output=stolen"]);
    assert_ne!(option.code, Some(0));
    assert!(!place.path("stolen").exists());
}

#[test]
fn the_packages_of_each_part_are_listed_with_their_versions() {
    let place = Place::new();
    place.write(
        "avocado.yaml",
        "default_target: qemux86-64
sdk: {packages: {tools: '*'}}
rootfs: {packages: {base: 1.0}}
extensions:
  app: {version: 1.0.0, packages: {hello: '*', more: '*'}}
  empty: {version: 1.0.0}
runtimes:
  dev: {extensions: [app], packages: {boot: '*'}, version: 1.2.3}
  prod: {extensions: [app, empty]}
",
    );
    place.write(
        "avocado.lock",
        r#"{"version": 7, "targets": {"qemux86-64": {
            "rootfs": {"base": "1.0-r0.x", "libc": "2-r0.x"},
            "extensions": {"app": {"packages": {"hello": "3-r0.x", "lib": "4-r0.x"}}}}}}"#,
    );
    let mut listed = String::new();
    for command in [
        "ext deps",
        "ext deps empty",
        "ext deps app --output json",
        "sdk deps",
        "rootfs deps",
        "initramfs deps",
        "runtime deps",
        "runtime deps dev",
        "runtime list",
        "runtime list --output json",
    ] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let ended = place.run(&arguments).ok();
        listed += &format!("$ avocado {command}\n{}\n", ended.stdout);
    }
    insta::assert_snapshot!("deps", listed);
    let unknown = place.run(&["ext", "deps", "nope"]).failed(1).stderr;
    assert!(
        unknown.contains("the project has no extension `nope`"),
        "{unknown}"
    );
}
