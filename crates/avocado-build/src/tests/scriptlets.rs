//! When the scriptlets of packages run again.

use std::sync::Arc;

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

const INSTALLS: [&str; 3] = ["ext install app", "initramfs install", "rootfs install"];

/// A feed with packages whose scriptlets make this.
fn feed(project: &TestProject, made: &'static str) -> FakeBackend {
    let mut backend = FakeBackend::new(&project.options.project);
    backend.scriptlets = Some(made);
    backend
}

fn build_from(project: &TestProject, backend: FakeBackend) -> Report {
    let goal = Goal::Build {
        runtime: None,
        var: true,
    };
    project.run_on(backend, &goal).unwrap()
}

/// Builds, with packages whose scriptlets make this.
fn build(project: &TestProject, made: &'static str) -> Report {
    build_from(project, feed(project, made))
}

/// The installs among the steps that ran.
fn installs(report: Report) -> Vec<String> {
    let mut installs = report.ran;
    installs.retain(|step| step.contains("install"));
    installs.sort_unstable();
    installs
}

#[test]
fn whether_scriptlets_run_is_an_input_of_the_trees_that_become_images() {
    let mut project = TestProject::new(PROJECT);
    let first = build(&project, "1");
    assert!(first.skipped_scriptlets.is_empty());
    assert_eq!(build(&project, "1").ran, [""; 0]);
    project.options.scriptlets = false;
    let second = build(&project, "1");
    assert_eq!(second.skipped_scriptlets.len(), INSTALLS.len());
    assert_eq!(installs(second), INSTALLS);
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

#[test]
fn the_time_that_scriptlets_are_told_is_an_input_where_they_run() {
    let mut project = TestProject::new(PROJECT);
    build(&project, "1");
    project.edit("distro:", "source_date_epoch: 86400\ndistro:");
    assert_eq!(installs(build(&project, "1")), INSTALLS);
    project.options.scriptlets = false;
    build(&project, "1");
    project.edit("86400", "86401");
    assert_eq!(installs(build(&project, "1")), [""; 0]);
}

#[test]
fn scriptlets_are_told_nothing_else_of_the_project() {
    let told = |project: &TestProject| {
        let backend = feed(project, "1");
        let jobs = Arc::clone(&backend.scriptlet_jobs);
        build_from(project, backend);
        let jobs = jobs.lock().unwrap();
        assert_eq!(jobs.len(), INSTALLS.len());
        jobs[0].environment.clone()
    };
    let plain = told(&TestProject::new(PROJECT));
    assert!(plain.contains_key("AVOCADO_TARGET"), "{plain:?}");
    let mut project = TestProject::new(&PROJECT.replace(
        "distro: {",
        "sdk: {image: sdk}
distro: {repo: {url: 'https://feed', tls_verify: false}, ",
    ));
    project.options.dnf_args = vec!["--nodocs".to_owned()];
    let proxy = ("https_proxy".to_owned(), "http://proxy".into());
    project.options.proxy_environment.extend([proxy]);
    assert_eq!(told(&project), plain);
}

#[test]
fn scriptlets_see_no_file_beside_avocado_yaml() {
    let mut project = TestProject::new(PROJECT);
    std::fs::create_dir(project.path("src")).unwrap();
    project.edit("distro:", "src_dir: src\ndistro:");
    let backend = feed(&project, "1");
    let jobs = Arc::clone(&backend.scriptlet_jobs);
    build_from(&project, backend);
    for job in jobs.lock().unwrap().iter() {
        for place in ["", "src"] {
            let place = project.path(place).canonicalize().unwrap();
            let mut hidden = job.hidden.iter();
            let is_hidden = hidden.any(|h| h.canonicalize().is_ok_and(|h| h == place));
            assert!(is_hidden, "{}: {:?}", place.display(), job.hidden);
        }
    }
}
