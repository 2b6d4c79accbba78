//! What a goal names, what is reported, and how a run ends.

use super::fake_backend::FakeBackend;
use super::graphs::{EXTENSIONS, HELLO, TWO_RUNTIMES};
use super::test_project::TestProject;
use crate::error::BuildError;
use crate::goal::Goal;

fn everything() -> Goal {
    Goal::Build {
        runtime: None,
        var: true,
    }
}

#[test]
fn what_the_project_does_not_have_is_told_with_what_it_has() {
    let project = TestProject::new(TWO_RUNTIMES);
    let name = || "three".parse().unwrap();
    for (goal, expected) in [
        (
            Goal::Build {
                runtime: Some(name()),
                var: true,
            },
            "the project has no runtime `three` (it has one, two)",
        ),
        (
            Goal::ExtImage(Some(name())),
            "the project has no extension `three` (it has shared, first, unused)",
        ),
        (
            Goal::ExtBuild(Some(name())),
            "the project has no extension `three` (it has shared, first, unused)",
        ),
    ] {
        assert_eq!(project.run(&goal).unwrap_err().to_string(), expected);
    }
    assert!(!project.path(".avocado").exists());
}

#[test]
fn a_build_reports_its_results_and_a_second_one_does_nothing() {
    let project = TestProject::new(HELLO);
    let first = project.run(&everything()).unwrap();
    let artifacts = |report: &crate::Report| -> Vec<String> {
        let artifacts = report.artifacts.iter();
        artifacts
            .map(|a| {
                assert!(a.path.exists() && a.size > 0, "{a:?}");
                format!("{} {}", a.kind, a.name)
            })
            .collect()
    };
    let names = artifacts(&first);
    assert_eq!(names.len(), 8);
    let manifest = names[4].clone();
    assert!(manifest.starts_with("manifest dev "), "{manifest}");
    assert_eq!(
        names,
        [
            "extension hello-1.0.0",
            "extension hello-config-1.0.0",
            "rootfs dev",
            "initramfs dev",
            &manifest,
            "repository dev",
            "var dev",
            "vm dev",
        ]
    );
    // What runs in this process has no child: the bundle of which there is none is one of these.
    assert_eq!(first.processes, first.ran.len() as u64 - 3);
    assert!(first.skipped.is_empty());

    let second = project.run(&everything()).unwrap();
    assert_eq!((second.ran.len(), second.processes), (0, 0));
    assert_eq!(second.skipped, first.ran);
    assert_eq!(second.artifacts, first.artifacts);
}

#[test]
fn an_install_of_one_part_installs_that_and_what_it_needs() {
    let project = TestProject::new(HELLO);
    let app = || Some("hello".parse().unwrap());
    for (goal, last) in [
        (Goal::RootfsInstall, "rootfs install"),
        (Goal::InitramfsInstall, "initramfs install"),
        (Goal::ExtInstall(app()), "ext install hello"),
    ] {
        let ran = project.run(&goal).unwrap().ran;
        assert_eq!(ran.last().map(String::as_str), Some(last), "{ran:?}");
    }
    let runtime = Goal::RuntimeInstall(Some("dev".parse().unwrap()));
    assert_eq!(project.run(&runtime).unwrap().ran, ["runtime install dev"]);
    assert_eq!(project.run(&Goal::Install).unwrap().ran, [""; 0]);
    let unknown = Goal::RuntimeInstall(Some("prod".parse().unwrap()));
    let error = project.run(&unknown).unwrap_err().to_string();
    assert_eq!(error, "the project has no runtime `prod` (it has dev)");
}

#[test]
fn what_is_installed_this_once_is_not_locked() {
    let mut project = TestProject::new(HELLO);
    project.options.unsaved = true;
    project.run(&Goal::Install).unwrap();
    assert!(!project.path("avocado.lock").exists());
    project.options.unsaved = false;
    project.options.frozen = true;
    let error = project.run(&Goal::Install).unwrap_err();
    assert!(matches!(error, BuildError::Step { .. }), "{error:?}");
    project.options.frozen = false;
    project.run(&Goal::Install).unwrap();
    assert!(project.path("avocado.lock").exists());
}

#[test]
fn without_stamps_everything_runs() {
    let mut project = TestProject::new(EXTENSIONS);
    let all = project.build();
    project.options.stamps = false;
    assert_eq!(project.build(), all);
    project.options.stamps = true;
    assert_eq!(project.build(), all);
}

#[test]
fn a_stopped_step_stops_the_build_and_names_no_failure() {
    let project = TestProject::new(HELLO);
    let mut backend = FakeBackend::new(&project.options.project);
    backend.stops = Some("ext build hello");
    let error = project.run_on(backend, &everything()).unwrap_err();
    assert!(error.is_cancelled());
    assert!(matches!(error, BuildError::Cancelled));
    let rest = project.build();
    assert!(rest.contains(&"ext build hello".to_owned()));
    assert!(!rest.contains(&"sdk install".to_owned()), "{rest:?}");
}

#[test]
fn a_stopped_install_counts_as_stopped_too() {
    let project = TestProject::new(HELLO);
    let mut backend = FakeBackend::new(&project.options.project);
    backend.stops = Some("sdk install");
    let error = project.run_on(backend, &Goal::Install).unwrap_err();
    assert!(matches!(error, BuildError::Cancelled));
}

/// A user who is not root may not be able to make a var image.
#[test]
fn what_a_deployment_needs_is_made_where_the_var_image_cannot_be() {
    let project = TestProject::new(TWO_RUNTIMES);
    let mut backend = FakeBackend::new(&project.options.project);
    backend.fails = Some("runtime var one");
    let error = project.run_on(backend, &everything()).unwrap_err();
    assert_eq!(error.to_string(), "runtime var one failed");
    let without = Goal::Build {
        runtime: None,
        var: false,
    };
    let report = project.run(&without).unwrap();
    assert!(report.ran.is_empty(), "{:?}", report.ran);
    for kind in ["manifest", "repository"] {
        let made = report.artifacts.iter().filter(|a| a.kind == kind);
        assert_eq!(made.filter(|a| a.path.exists()).count(), 2, "{kind}");
    }
    assert!(!report.artifacts.iter().any(|a| a.kind == "var"));
    // The other one's var image does not need the one that failed.
    assert_eq!(project.build(), ["runtime var one"]);
}

#[test]
fn a_file_for_the_var_partition_is_asked_for_by_that() {
    let project = TestProject::new(HELLO);
    std::fs::remove_file(project.path("seed.txt")).unwrap();
    let error = project.run(&everything()).unwrap_err();
    assert_eq!(error.to_string(), "runtime var dev failed");
    assert_eq!(error.diagnostics().len(), 1);
    let without = Goal::Build {
        runtime: None,
        var: false,
    };
    project.run(&without).unwrap();
}

/// Root has signing keys of its own; who built first may have been another user.
#[test]
fn what_the_owner_of_the_project_published_is_published_again_with_the_owners_key() {
    let mut project = TestProject::new(HELLO);
    project.build();
    let owner = project
        .options
        .keyring
        .replace(project.path("keys of root"));
    let other = project.run(&everything()).unwrap_err();
    assert_eq!(other.kind(), Some(crate::FailureKind::OtherSigningKey));
    std::fs::remove_dir_all(project.path("keys of root")).unwrap();

    project.options.owner_keyring = owner;
    assert!(project.build().is_empty());
    project.options.now = "2026-01-07T01:00:00Z".parse().unwrap();
    assert_eq!(project.build(), ["runtime repository dev"]);
    // No key was made that signs nothing.
    assert!(!project.path("keys of root").exists());

    // What nobody has published is signed with one's own.
    let state = project.path(".avocado/state");
    std::fs::remove_dir_all(state).unwrap();
    project.build();
    assert!(project.path("keys of root").exists());
}
