//! When the scriptlets of packages run again.

use super::fake_backend::FakeBackend;
use super::test_project::TestProject;
use crate::goal::Goal;
use crate::run::Report;

const PROJECT: &str = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
rootfs: {packages: {avocado-pkg-rootfs: '*'}}
extensions: {app: {version: 1.0.0, packages: {hello: '*'}}}
runtimes: {dev: {extensions: [app]}}
";

/// Builds, with packages whose scriptlets make this.
fn build(project: &TestProject, made: &'static str) -> Report {
    let mut backend = FakeBackend::new(&project.options.project);
    backend.scriptlets = Some(made);
    let goal = Goal::Build {
        runtime: None,
        var: true,
    };
    project.run_on(backend, &goal).unwrap()
}

#[test]
fn whether_scriptlets_run_is_an_input_of_the_trees_that_become_images() {
    let mut project = TestProject::new(PROJECT);
    let first = build(&project, "1");
    assert!(first.skipped_scriptlets.is_empty());
    assert_eq!(build(&project, "1").ran, [""; 0]);
    project.options.scriptlets = false;
    let second = build(&project, "1");
    let mut installs = second.ran;
    installs.retain(|step| step.contains("install"));
    installs.sort_unstable();
    let images = ["ext install app", "initramfs install", "rootfs install"];
    assert_eq!(installs, images);
    assert_eq!(second.skipped_scriptlets.len(), images.len());
    assert_eq!(build(&project, "1").ran, [""; 0]);
}

#[test]
fn what_scriptlets_made_counts_for_the_next_steps() {
    let project = TestProject::new(PROJECT);
    build(&project, "1");
    let install_again = |made| {
        let rootfs = project.path(".avocado/state/qemux86-64/rootfs");
        std::fs::remove_dir_all(rootfs).unwrap();
        build(&project, made).ran
    };
    assert_eq!(install_again("1"), ["rootfs install"]);
    // The same packages, and something else in the tree.
    let ran = install_again("2");
    assert!(ran.contains(&"rootfs image dev".to_owned()), "{ran:?}");
}
