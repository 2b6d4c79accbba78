//! What a build writes into the lock, and says of it.

use std::fs;

use serde_json::Value;

use super::graphs::HELLO;
use super::test_project::TestProject;

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
