//! A feed whose head moves on while it is read.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use avocado_serve::ServeOptions;
use avocado_test_server::{Fault, FaultRule};
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::ToolCall;
use common::{Sandbox, cannot_build, feed};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
const TARGET: &str = "2024/edge/target/qemux86-64";

/// A copy of the feed of its own.
fn copy(place: &Path) -> SampleFeed {
    let copy = place.join("feed");
    let from = feed().directory();
    // The packages are the same files; the indexes are made anew where they differ.
    ToolCall::new("cp")
        .arg("-al")
        .arg(from)
        .arg(&copy)
        .ok()
        .unwrap();
    SampleFeed::serve(ServeOptions::new(copy)).unwrap()
}

fn project(sandbox: &Sandbox, feed: &SampleFeed) -> TestProject {
    let project = sandbox.project.clone();
    let yaml = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
extensions: {app: {version: 1.0.0, packages: {hello: '*', hello-tools: '*'}}}
rootfs: {packages: {libgreeting: '*'}}
";
    project.write("avocado.yaml", yaml).unwrap();
    fs::remove_file(project.directory().join("avocado.lock")).unwrap();
    project.with_env("AVOCADO_REPO_URL", feed.url())
}

fn versions(project: &TestProject) -> Vec<String> {
    let lock: Value = serde_json::from_str(&project.read("avocado.lock").unwrap()).unwrap();
    let packages = &lock["targets"]["qemux86-64"]["extensions"]["app"]["packages"];
    let packages = packages.as_object().unwrap().iter();
    let packages = packages.map(|(name, version)| format!("{name} {}", version.as_str().unwrap()));
    packages.collect()
}

#[test]
fn a_head_that_moves_between_index_and_packages_is_asked_again() {
    if cannot_build("a_head_that_moves_between_index_and_packages_is_asked_again") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let moving = copy(sandbox.directory.path());
    let project = project(&sandbox, &moving).with_env("AVOCADO_RELEASEVER", "2024/edge");
    // The rest of what is installed comes first, and what is known of the feed goes again.
    project.avocado(&["install", "--rootfs"]).ok().unwrap();
    fs::remove_dir_all(project.state().join(".work/dnf-cache")).unwrap();
    let target = moving.directory().join(TARGET);
    let moved = sandbox.directory.path().join("moved");
    ToolCall::new("cp")
        .arg("-al")
        .arg(&target)
        .arg(&moved)
        .ok()
        .unwrap();
    for package in ["hello", "hello-tools"] {
        for arch in ["core2_64", "noarch"] {
            let _ = fs::remove_file(moved.join(format!("{package}-1.1.0-r0.{arch}.rpm")));
        }
    }
    fs::remove_dir_all(moved.join("repodata")).unwrap();
    ToolCall::new("createrepo_c")
        .args(["-q", "--no-database", "--general-compress-type=gz"])
        .arg(&moved)
        .ok()
        .unwrap();

    // dnf has repomd.xml and waits for the index that it names.
    let server = moving.server();
    let index = "*/target/qemux86-64/repodata/*-primary.xml.gz";
    server
        .faults()
        .add(FaultRule::new(Fault::Stall(1), index).first(1));
    let before = server.requests().len();
    let output = std::thread::scope(|scope| {
        let install = scope.spawn(|| project.avocado(&["install", "-e", "app"]).run());
        let is_asked = server.wait(LIMIT, |requests| {
            let mut requests = requests.iter().skip(before);
            requests.any(|request| {
                request.path.contains("target/qemux86-64/repodata/")
                    && request.path.ends_with("-primary.xml.gz")
            })
        });
        assert!(is_asked, "nobody asked for the index");
        fs::rename(&target, target.with_extension("old")).unwrap();
        fs::rename(&moved, &target).unwrap();
        server.faults().release();
        install.join().unwrap().unwrap()
    });
    assert!(output.status.success(), "{output}");
    // All of it is from the feed as it is now.
    for version in versions(&project) {
        assert!(version.contains(" 1.0.0-"), "{version}");
    }

    // What never comes is told, and leaves nothing behind.
    let lock = project.read("avocado.lock").unwrap();
    fs::remove_dir_all(project.directory().join(".avocado")).unwrap();
    let gone = FaultRule::new(Fault::Status(404), "hello-1*.rpm");
    server.faults().add(gone);
    let output = project.avocado(&["install", "-e", "app"]).run().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(
        output.stderr.contains("hello-1.0.0") && output.stderr.contains("a snapshot"),
        "{output}"
    );
    assert_eq!(project.read("avocado.lock").unwrap(), lock);
    assert!(!project.state().join(".work/extensions/app").exists());
    server.faults().clear();
    project.avocado(&["install", "-e", "app"]).ok().unwrap();
}

#[test]
fn with_a_snapshot_nobody_looks_at_the_head() {
    if cannot_build("with_a_snapshot_nobody_looks_at_the_head") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let moving = copy(sandbox.directory.path());
    let project = project(&sandbox, &moving);
    project.avocado(&["install"]).ok().unwrap();
    let requests = moving.server().requests();
    let of_head = requests
        .iter()
        .filter(|request| !request.path.contains("/snapshots/"));
    let of_head: Vec<&str> = of_head.map(|request| request.path.as_str()).collect();
    assert_eq!(of_head, [format!("/{TARGET}/snapshots-latest.json")]);
}
