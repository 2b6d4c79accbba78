//! What is said of the steps that run.

use std::fs;
use std::sync::Mutex;

use avocado_events::{Cancel, Event, EventKind};

use super::fake_backend::FakeBackend;
use super::graphs::HELLO;
use super::test_project::TestProject;
use crate::goal::Goal;
use crate::run::{outdated_on, run_with};

/// The steps that a build of everything runs, each with the reason.
fn explained(project: &TestProject) -> String {
    let said = Mutex::new(String::new());
    let sink = |event: Event| {
        if event.kind == EventKind::Info && !event.stage.is_empty() {
            *said.lock().unwrap() += &format!("{}: {}\n", event.stage, event.message);
        }
    };
    let mut options = project.options.clone();
    options.explain = true;
    // One after the other, so that the order is always the same.
    options.jobs = 1;
    let backend = Box::new(FakeBackend::new(&options.project));
    let goal = Goal::Build {
        runtime: None,
        var: true,
    };
    run_with(&options, backend, &goal, &Cancel::new(), &sink).unwrap();
    said.into_inner().unwrap()
}

#[test]
fn each_step_that_runs_names_the_input_that_differs() {
    let mut project = TestProject::new(HELLO);
    let mut all = String::new();
    let mut tell = |project: &TestProject, edit: &str| {
        all += &format!("== {edit}\n{}", explained(project));
    };
    tell(&project, "the first build");
    tell(&project, "no edit");
    project.write("overlay/app/etc/app.conf", "a = 2\n");
    tell(&project, "a byte of an overlay");
    project.edit("version: 1.0.0", "version: 1.0.1");
    tell(&project, "the version of an extension");
    let lock = fs::read_to_string(project.path("avocado.lock")).unwrap();
    let hello = lock.find("\"hello\": {").unwrap();
    let (before, after) = lock.split_at(hello);
    let pinned = before.to_owned() + &after.replacen("1-r0.all", "2-r0.all", 1);
    project.write("avocado.lock", &pinned);
    tell(&project, "the pin of a package");
    project.options.cli_version = "2".into();
    let version = explained(&project);
    assert!(version.starts_with("sdk install: it was made by another version\n"));
    // Signing keys are new in each run, and with them the manifest and what is made of it.
    insta::with_settings!({filters => vec![("[0-9a-f]{12}…", "[digest]…")]}, {
        insta::assert_snapshot!(all);
    });
}

#[test]
fn what_is_deployed_and_older_than_its_sources_is_told_by_the_input_that_differs() {
    let project = TestProject::new(HELLO);
    let outdated = |project: &TestProject| {
        let backend = Box::new(FakeBackend::new(&project.options.project));
        let found = outdated_on(&project.options, backend, &"dev".parse().unwrap()).unwrap();
        found.map(|task| format!("{}: {}", task.stage, task.reason))
    };
    assert_eq!(outdated(&project).unwrap(), "sdk install: no stamp");
    project.build();
    assert_eq!(outdated(&project), None);
    project.write("overlay/app/etc/app.conf", "a = 2\n");
    let told = outdated(&project).unwrap();
    let expected = "ext build hello-config: build.overlay.content: ";
    assert!(told.starts_with(expected), "{told}");
    // Nothing was built by that.
    assert_eq!(outdated(&project).unwrap(), told);
    assert_eq!(project.build()[0], "ext build hello-config");
    assert_eq!(outdated(&project), None);
    // What no deployment waits for makes it no older.
    project.write("seed.txt", "another\n");
    assert_eq!(outdated(&project), None);
}

#[test]
fn how_it_was_built_makes_it_no_older() {
    let mut project = TestProject::new(HELLO);
    let outdated = |project: &TestProject| {
        let backend = Box::new(FakeBackend::new(&project.options.project));
        let found = outdated_on(&project.options, backend, &"dev".parse().unwrap()).unwrap();
        found.map(|task| task.stage)
    };
    project.options.scriptlets = false;
    project.options.dnf_args = vec!["--nobest".to_owned()];
    project.build();
    assert_eq!(outdated(&project), None);
    project.options.dnf_args = Vec::new();
    assert!(outdated(&project).is_some());
}
