//! When the scriptlets of packages run again.

use std::sync::Arc;

use avocado_backend::Processor;

use super::fake_backend::FakeBackend;
use super::test_project::TestProject;
use crate::failure_kind::FailureKind;
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

/// Where the target's programs, or those of the SDK, are for one.
#[test]
fn scriptlets_of_another_processor_may_be_emulated() {
    let emulated = |architectures: &str, sdk: Option<Processor>| {
        let mut project = TestProject::new(PROJECT);
        project.options.sdk_processor = sdk.unwrap_or(Processor::HOST);
        build(&project, "1");
        let state = project.path(".avocado/state/qemux86-64");
        let variables = state.join("sdk/target-repoconf/etc/dnf/vars");
        std::fs::create_dir_all(&variables).unwrap();
        std::fs::write(variables.join("arch"), architectures).unwrap();
        std::fs::remove_dir_all(state.join("rootfs")).unwrap();
        let backend = feed(&project, "1");
        let jobs = Arc::clone(&backend.scriptlet_jobs);
        build_from(&project, backend);
        let jobs = jobs.lock().unwrap();
        assert!(jobs.iter().all(|job| job.emulates == jobs[0].emulates));
        jobs[0].emulates
    };
    let other = Processor::ALL.into_iter().find(|p| *p != Processor::HOST);
    let named = |processor: Processor| format!("avocado_board:{processor}:noarch");
    let (own, foreign) = (named(Processor::HOST), named(other.unwrap()));
    assert_eq!(emulated(&own, None), None);
    assert_eq!(emulated(&foreign, None), other);
    assert_eq!(emulated(&own, other), other);
}

/// What a scriptlet cannot start makes another tree, which is not up to date where it could.
#[test]
fn what_emulates_is_an_input_of_scriptlets_for_another_processor_and_of_no_others() {
    let other = Processor::ALL.into_iter().find(|p| *p != Processor::HOST);
    for (processor, counts) in [(Processor::HOST, false), (other.unwrap(), true)] {
        let project = TestProject::new(PROJECT);
        build(&project, "1");
        let variables = project.path(".avocado/state/qemux86-64/sdk/target-repoconf/etc/dnf/vars");
        std::fs::create_dir_all(&variables).unwrap();
        let names = format!("avocado_board:{processor}:noarch");
        std::fs::write(variables.join("arch"), names).unwrap();
        let ran_with = |emulator| {
            let mut backend = feed(&project, "1");
            backend.emulator = emulator;
            installs(build_from(&project, backend))
        };
        ran_with(None);
        assert_eq!(ran_with(None), [""; 0]);
        for emulator in [Some("qemu 1"), Some("qemu 2"), None] {
            let expected: &[&str] = if counts { &INSTALLS } else { &[] };
            assert_eq!(ran_with(emulator), expected, "{processor} {emulator:?}");
        }
    }
}

#[test]
fn what_no_scriptlet_can_start_is_told_once() {
    let other = Processor::ALL.into_iter().find(|p| *p != Processor::HOST);
    let mut project = TestProject::new(PROJECT);
    project.options.sdk_processor = other.unwrap();
    let warnings = |emulator| {
        let mut backend = feed(&project, "1");
        backend.emulator = emulator;
        project.said_by(backend, "qemu-user-static")
    };
    assert_eq!(warnings(None).len(), 1);
    assert_eq!(warnings(Some("qemu 1")), [""; 0]);
}

/// An SDK for another processor has tools that do not start; scriptlets need none of them.
#[test]
fn a_hook_is_refused_the_tools_of_an_sdk_that_nothing_emulates() {
    let other = Processor::ALL.into_iter().find(|p| *p != Processor::HOST);
    let mut project = TestProject::new(PROJECT);
    project.options.sdk_processor = other.unwrap();
    let build_with = |project: &TestProject, emulator| {
        let mut backend = feed(project, "1");
        backend.emulator = emulator;
        let goal = Goal::Build {
            runtime: None,
            var: true,
        };
        project.run_on(backend, &goal)
    };
    build_with(&project, None).unwrap();
    project.edit("app: {", "app: {post_build: hook.sh, ");
    let error = build_with(&project, None).unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::NotEmulated), "{error:?}");
    build_with(&project, Some("qemu 1")).unwrap();
}
