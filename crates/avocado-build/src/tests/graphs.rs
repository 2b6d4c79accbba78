//! The graph of each goal, for three projects.

use std::sync::{Mutex, Once};

use avocado_events::{Cancel, Silent};
use avocado_project::LockFile;

use super::fake_backend::FakeBackend;
use super::test_project::TestProject;
use crate::build_context::BuildContext;
use crate::goal::Goal;
use crate::layout::Layout;
use crate::packages::feed::Feed;
use crate::plan::Plan;
use crate::sources::ProjectSources;

/// One rootfs and one runtime, as `examples/hello` has them.
pub(crate) const HELLO: &str = include_str!("projects/hello.yaml");
/// Two runtimes that share one extension, and a rootfs each; not for QEMU.
pub(super) const TWO_RUNTIMES: &str = include_str!("projects/two-runtimes.yaml");
/// No runtime at all.
pub(super) const EXTENSIONS: &str = include_str!("projects/extensions.yaml");

fn graphs(yaml: &str) -> String {
    let project = TestProject::new(yaml);
    let (options, cancel) = (&project.options, Cancel::new());
    let project = &options.project;
    let first_extension = project.extensions.first().map(|e| e.name.clone());
    let first_runtime = project.runtimes.first().map(|r| r.name.clone());
    let goals = [
        ("install", Goal::Install),
        (
            "build",
            Goal::Build {
                runtime: None,
                var: true,
            },
        ),
        (
            "build of the first runtime",
            Goal::Build {
                runtime: first_runtime,
                var: true,
            },
        ),
        (
            "build without the var partition",
            Goal::Build {
                runtime: None,
                var: false,
            },
        ),
        ("ext build", Goal::ExtBuild(None)),
        (
            "ext build of the first extension",
            Goal::ExtBuild(first_extension.clone()),
        ),
        ("ext image", Goal::ExtImage(None)),
        (
            "ext image of the first extension",
            Goal::ExtImage(first_extension),
        ),
        ("rootfs image", Goal::RootfsImage),
        ("initramfs image", Goal::InitramfsImage),
    ];
    let mut text = String::new();
    for (title, goal) in goals {
        let context = BuildContext {
            skipped_scriptlets: Mutex::default(),
            options,
            project,
            backend: Box::new(FakeBackend::new(project)),
            lock_file: Mutex::new(LockFile::load(&project.src_dir).unwrap()),
            completes_lock: Once::new(),
            shortens_environment: Once::new(),
            misses_emulation: Once::new(),
            sources: ProjectSources::default(),
            known_files: crate::known_files::KnownFiles::new("".into(), "".into()),
            feed: Feed::new(project, &options.network, &cancel),
            cancel: &cancel,
            checkout_mode: 0o644,
            layout: Layout::new(&project.state_dir(), &project.target),
        };
        let mut plan = Plan::new(&context, &Silent);
        for step in goal.steps(project).unwrap() {
            step.add_to(&mut plan).unwrap();
        }
        text += &format!("# {title}\n{}\n", plan.graph());
    }
    text
}

#[test]
fn the_graphs_of_hello() {
    insta::assert_snapshot!(graphs(HELLO));
}

#[test]
fn the_graphs_of_a_project_with_two_runtimes() {
    insta::assert_snapshot!(graphs(TWO_RUNTIMES));
}

#[test]
fn the_graphs_of_a_project_with_extensions_only() {
    insta::assert_snapshot!(graphs(EXTENSIONS));
}

#[test]
fn the_hello_here_has_the_steps_of_the_example() {
    let example = include_str!("../../../../examples/hello/avocado.yaml");
    let ours: Vec<&str> = HELLO.lines().collect();
    for line in example.lines().map(str::trim_end) {
        let is_step = ["packages:", "enable_services:", "extensions:", "runtimes:"];
        if is_step.iter().any(|key| line.trim_start().starts_with(key)) {
            assert!(ours.contains(&line), "{line}");
        }
    }
}
