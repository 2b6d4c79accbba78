//! What a build writes into the lock, and says of it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::fake_backend::FakeBackend;
use super::graphs::HELLO;
use super::test_project::TestProject;
use crate::goal::Goal;

fn lock(project: &TestProject) -> Value {
    serde_json::from_slice(&fs::read(project.path("avocado.lock")).unwrap()).unwrap()
}

/// Changes what is locked for the target.
fn edit(project: &TestProject, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let mut lock = lock(project);
    change(lock["targets"]["qemux86-64"].as_object_mut().unwrap());
    project.write("avocado.lock", &lock.to_string());
}

#[test]
fn a_lock_of_versions_alone_is_completed_and_that_is_said_once() {
    let project = TestProject::new(HELLO);
    assert_eq!(project.said_of_lock(&[]), [""; 0]);
    let whole = lock(&project);
    let headers = &whole["targets"]["qemux86-64"]["package-headers"];
    assert_eq!(headers["rootfs"]["avocado-pkg-rootfs"]["digest"], "1");

    edit(&project, |target| {
        target.remove("package-headers").unwrap();
    });
    let said = project.said_of_lock(&[]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("versions alone"), "{said:?}");
    assert_eq!(lock(&project), whole);
    assert_eq!(project.said_of_lock(&[]), [""; 0]);
}

#[test]
fn what_a_feed_adds_to_a_lock_that_has_all_that_is_asked_for_is_named() {
    let mut project = TestProject::new(HELLO);
    assert_eq!(project.said_of_lock(&["needed"]), [""; 0]);
    project.options.stamps = false;
    assert_eq!(project.said_of_lock(&["needed"]), [""; 0]);
    let said = project.said_of_lock(&["needed", "slipped-in"]);
    assert!(!said.is_empty());
    let expected = "the feed added what avocado.lock did not have: slipped-in";
    assert!(said.iter().all(|text| text == expected), "{said:?}");
}

#[test]
fn a_locked_project_builds_as_long_as_the_lock_says_all() {
    let mut project = TestProject::new(HELLO);
    project.options.locked = true;
    let fails = |project: &TestProject| {
        let goal = crate::Goal::Build {
            runtime: None,
            var: true,
        };
        let error = project.run(&goal).unwrap_err();
        assert!(
            error.hint().unwrap().contains("without --locked"),
            "{error:?}"
        );
        avocado_events::chain(&error)
    };
    let said = fails(&project);
    assert!(said.contains("would have to change"), "{said}");
    assert!(!project.path("avocado.lock").exists());

    project.options.locked = false;
    project.build();
    let before = lock(&project);
    project.options.locked = true;
    assert!(project.build().is_empty());
    project.options.stamps = false;
    project.build();
    project.options.stamps = true;
    project.edit("      hello-tools: \"*\"\n", "      hello-utils: \"*\"\n");
    let said = fails(&project);
    assert!(said.contains("hello-utils`: (none) → 1-r0.all"), "{said}");
    assert_eq!(lock(&project), before);
    // It says so again: nothing was recorded as done.
    assert_eq!(fails(&project), said);
    project.options.locked = false;
    assert!(project.build().contains(&"ext install hello".to_owned()));
}

/// What a run says that is not to change the lock, and how many steps it started.
fn refused(project: &TestProject, goal: &Goal) -> (String, u64) {
    let backend = FakeBackend::new(&project.options.project);
    let started = Arc::clone(&backend.processes);
    let error = project.run_on(backend, goal).unwrap_err();
    (
        avocado_events::chain(&error),
        started.load(Ordering::Relaxed),
    )
}

const VERSIONS: &str = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
rootfs: {packages: {avocado-pkg-rootfs: '*'}}
extensions:
  app: {version: 1.0.0, packages: {hello: '1'}}
runtimes:
  dev: {extensions: [app], kernel: {version: '6.12.0'}}
";

#[test]
fn a_locked_install_is_refused_for_another_version_before_it_begins() {
    let mut project = TestProject::new(VERSIONS);
    project.run(&Goal::Install).unwrap();
    let before = lock(&project);
    project.options.locked = true;
    project.options.stamps = false;
    project.run(&Goal::Install).unwrap();
    // By now a version that the lock has not.
    project.edit("hello: '1'", "hello: '2'");
    let goal = Goal::ExtInstall(None);
    let (said, started) = refused(&project, &goal);
    assert_eq!(started, 0);
    for part in [
        "hello is locked in version 1-r0.all",
        "avocado.yaml:5:43 states 2 for ext install app",
    ] {
        assert!(said.contains(part), "{said}");
    }
    project.edit("hello: '2'", "hello: '1-r0'");
    project.run(&goal).unwrap();

    project.edit("'6.12.0'", "'>=6.13'");
    project.options.stamps = true;
    let (said, started) = refused(&project, &Goal::RootfsInstall);
    let part = "the kernel 6.12.0 is locked, and ";
    assert!(
        said.contains(part) && said.contains("avocado.yaml:7:"),
        "{said}"
    );
    assert_eq!(started, 0);
    assert_eq!(lock(&project), before);
}

#[test]
fn a_version_that_is_not_the_locked_one_is_told_with_its_place_in_the_project() {
    let mut project = TestProject::new(
        "default_target: qemux86-64
distro: {release: '2024', channel: edge}
sdk:
  packages:
    tool: '*'
rootfs:
  packages:
    base: {version: '*'}
initramfs:
  packages:
    first: '*'
extensions:
  app:
    version: 1.0.0
    packages:
      hello: '*'
    sdk:
      packages:
        tool: '*'
runtimes:
  dev:
    extensions: [app]
    packages:
      own: '*'
",
    );
    project.run(&Goal::Install).unwrap();
    project.options.locked = true;
    for (before, place) in [
        ("    tool: '*'\nrootfs", "avocado.yaml:5:11"),
        ("    base: {version: '*'}", "avocado.yaml:8:21"),
        ("    first: '*'", "avocado.yaml:11:12"),
        ("      hello: '*'", "avocado.yaml:16:14"),
        // Of one that several ask for: who states which.
        ("        tool: '*'", "avocado.yaml:19:15"),
        ("      own: '*'", "avocado.yaml:24:12"),
    ] {
        let after = before.replace("'*'", "'9'");
        project.edit(before, &after);
        let (said, started) = refused(&project, &Goal::Install);
        assert!(said.contains(&format!("{place} states 9 for ")), "{said}");
        assert_eq!(started, 0, "{place}");
        project.edit(&after, before);
    }
}

#[test]
fn a_locked_fetch_of_a_package_is_refused_for_another_version_before_it_begins() {
    const FETCHED: &str = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
extensions:
  app:
    source:
      type: package
      version: '1'
";
    let mut project = TestProject::new(FETCHED);
    project.write(
        "avocado.lock",
        r#"{"version": 7, "targets": {"qemux86-64": {
            "sdk": {"x86_64": {"avocado-sdk-qemux86-64": "1-r0.all"}},
            "includes": {"app": {"app": "1-r0.noarch"}}
        }}}"#,
    );
    project.edit("version: '1'", "version: '1.1'");
    project.options.locked = true;
    let (said, started) = refused(&project, &Goal::Fetch(None));
    assert_eq!(started, 0);
    let expected = "the package app is locked in version 1-r0.noarch, and ";
    assert!(said.contains(expected), "{said}");
    assert!(said.contains("avocado.yaml:7:16 states 1.1"), "{said}");
}

#[test]
fn what_the_project_has_not_any_more_leaves_the_lock_and_that_is_said_once() {
    let mut project = TestProject::new(VERSIONS);
    project.build();
    let before = lock(&project);
    let app =
        "  app: {version: 1.0.0, packages: {hello: '1'}}\nruntimes:\n  dev: {extensions: [app]";
    let own = "  own: {version: 1.0.0}\nruntimes:\n  dev: {extensions: [own]";
    project.edit(app, own);
    // What is not asked for is no change.
    project.options.locked = true;
    project.build();
    assert_eq!(lock(&project), before);
    project.options.locked = false;
    let said = project.said_of_lock(&[]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].ends_with("for qemux86-64: extensions/app"),
        "{said:?}"
    );
    let now = lock(&project);
    let target = &now["targets"]["qemux86-64"];
    assert!(target.get("extensions").is_none(), "{now}");
    assert!(
        target["package-headers"].get("extensions/app").is_none(),
        "{now}"
    );
    assert!(target.get("rootfs").is_some(), "{now}");
    assert_eq!(project.said_of_lock(&[]), [""; 0]);
    project.options.locked = true;
    assert_eq!(project.build(), [""; 0]);
}
