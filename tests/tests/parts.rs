//! Looking at and cleaning one part of a project, with the real tools.

mod common;

use std::fs;

use common::{Sandbox, cannot_build, cannot_compile};

/// Names, sizes and times of a tree.
fn listing(root: &std::path::Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter();
    let line = |entry: walkdir::DirEntry| {
        let found = entry.metadata().unwrap();
        let (size, time) = (found.size(), (found.mtime(), found.mtime_nsec()));
        format!("{} {size} {time:?}", entry.path().display())
    };
    entries.map(|entry| line(entry.unwrap())).collect()
}

#[test]
fn questions_about_packages_change_nothing() {
    if cannot_build("questions_about_packages_change_nothing") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = &sandbox.project;
    let yaml = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
rootfs: {packages: {libgreeting: '*'}}
initramfs: {packages: {libgreeting: '*'}}
extensions: {app: {version: 1.0.0, packages: {hello: '*'}}}
runtimes: {dev: {extensions: [app]}}
";
    project.write("avocado.yaml", yaml).unwrap();
    fs::remove_file(project.directory().join("avocado.lock")).unwrap();
    let early = project.avocado(&["rootfs", "dnf", "list"]).run().unwrap();
    assert_eq!(early.status.code(), Some(1), "{early}");
    assert!(early.stderr.contains("avocado sdk install"), "{early}");
    let list = ["rootfs", "list", "--output", "json"];
    let list = || -> serde_json::Value {
        let output = project.avocado(&list).ok().unwrap();
        serde_json::from_str(&output.stdout).unwrap()
    };
    assert!(list()[0]["packages"].is_null());

    project.avocado(&["install"]).ok().unwrap();
    let trees = ["rootfs", ".work/extensions", "sdk", ".stamps"];
    let trees = || trees.map(|tree| listing(&project.state().join(tree)));
    let (before, lock) = (trees(), project.read("avocado.lock").unwrap());
    let packages = list()[0]["packages"].clone();
    let version = packages["libgreeting"].as_str().unwrap();
    assert!(version.starts_with("1.1.0-r0."), "{packages}");

    let asked = |words: &[&str]| project.avocado(words).ok().unwrap().stdout;
    let installed = ["list", "--installed"];
    let app = asked(&[&["ext", "dnf", "-e", "app", "-q"][..], &installed].concat());
    assert!(
        app.contains("hello.core2_64") && app.contains("libgreeting"),
        "{app}"
    );
    let rootfs = asked(&[&["rootfs", "dnf", "-q"][..], &installed].concat());
    assert!(
        rootfs.contains("libgreeting") && !rootfs.contains("hello"),
        "{rootfs}"
    );
    // Of the snapshot that the project is pinned to.
    let known = asked(&["sdk", "dnf", "-q", "repoquery", "avocado-sdk-bootstrap"]);
    assert!(known.contains("avocado-sdk-bootstrap"), "{known}");
    let repositories = asked(&["runtime", "dnf", "-r", "dev", "repolist"]);
    assert!(repositories.contains("qemux86-64-target"), "{repositories}");
    let none = project.avocado(&["ext", "dnf", "-e", "app", "info", "no-such"]);
    assert_eq!(none.run().unwrap().status.code(), Some(1));
    for words in [&["install", "hello-tools"][..], &["-y", "remove", "hello"]] {
        let words = [&["ext", "dnf", "-e", "app"][..], words].concat();
        let refused = project.avocado(&words).run().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{refused}");
        assert!(refused.stderr.contains("PACKAGES -e app"), "{refused}");
    }
    assert_eq!(trees(), before);
    assert_eq!(project.read("avocado.lock").unwrap(), lock);
    let again = project.events(&["install"]).unwrap();
    assert_eq!(again.complete()["ran"], 0);
}

#[test]
fn sections_are_cleaned_by_their_scripts() {
    if cannot_compile("sections_are_cleaned_by_their_scripts") {
        return;
    }
    let sandbox = Sandbox::example("compiled");
    let project = &sandbox.project;
    let clean = "ls \"$AVOCADO_BUILD_DIR\" >/opt/src/cleaned\n";
    project.write("greeter/clean.sh", clean).unwrap();
    project
        .avocado(&["sdk", "compile", "greeter"])
        .ok()
        .unwrap();
    let place = project.state().join("sdk/x86_64/build/greeter");
    assert!(place.is_dir());
    let output = project.avocado(&["sdk", "clean", "greeter"]).ok().unwrap();
    assert!(output.stderr.contains("build/greeter"), "{output}");
    assert!(!place.exists());
    assert!(!project.read("cleaned").unwrap().is_empty());

    // One that fails leaves what there is.
    project
        .avocado(&["sdk", "compile", "greeter"])
        .ok()
        .unwrap();
    project.write("greeter/clean.sh", "exit 3\n").unwrap();
    let failed = project.avocado(&["sdk", "clean"]).run().unwrap();
    assert_eq!(failed.status.code(), Some(1), "{failed}");
    assert!(failed.stderr.contains("greeter/clean.sh"), "{failed}");
    assert!(place.is_dir());
}

#[test]
fn a_command_runs_in_the_environment_of_scripts() {
    if cannot_build("a_command_runs_in_the_environment_of_scripts") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = &sandbox.project;
    let run = |words: &[&str]| project.avocado(&[&["sdk", "run"], words].concat());
    let early = run(&["true"]).run().unwrap();
    assert!(early.stderr.contains("avocado sdk install"), "{early}");
    project.avocado(&["sdk", "install"]).ok().unwrap();

    assert_eq!(
        run(&["sh", "-c", "exit 7"]).run().unwrap().status.code(),
        Some(7)
    );
    let killed = run(&["sh", "-c", "kill -TERM $$"]).run().unwrap();
    assert_eq!(killed.status.code(), Some(128 + 15), "{killed}");
    let echo = run(&["cat"]).input("as it is\n").ok().unwrap();
    assert_eq!(echo.stdout, "as it is\n");
    let said = run(&["-r", "dev", "-E", "OWN=a b", "env"]).ok().unwrap();
    for line in [
        "AVOCADO_TARGET=qemux86-64",
        "AVOCADO_SRC_DIR=/opt/src",
        "AVOCADO_RUNTIME=dev",
        "OWN=a b",
        "PWD=/opt/src",
    ] {
        assert!(said.stdout.lines().any(|l| l == line), "{line}: {said}");
    }
    // The sources are the user's, the state is not.
    let script = "touch made && ! touch /opt/_avocado/made 2>/dev/null";
    run(&["sh", "-c", script]).ok().unwrap();
    assert!(project.directory().join("made").is_file());
    let _ = run(&["touch", "/opt/src/.avocado/state/made"])
        .run()
        .unwrap();
    assert!(!project.directory().join(".avocado/state/made").exists());
    for (words, status) in [
        (&["--name", "x", "true"][..], 2),
        (&["-d", "true"], 2),
        (&["-E", "x", "true"], 2),
        (&["-e", "none", "true"], 1),
        (&["no-such-command"], 127),
        (&[], 2),
    ] {
        let refused = run(words).run().unwrap();
        assert_eq!(refused.status.code(), Some(status), "{words:?} {refused}");
    }
}

#[test]
fn a_command_at_a_terminal_has_it() {
    let needs = [avocado_testbed::tools::TestNeed::Tool("script")];
    let name = "a_command_at_a_terminal_has_it";
    if cannot_build(name) || avocado_testbed::tools::skip_without(name, &needs) {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = &sandbox.project;
    project.avocado(&["sdk", "install"]).ok().unwrap();
    // An interrupt is for the command, and not for what carries it there.
    let asked = "test -t 0 && test -t 1 && test -t 2 && trap 'exit 5' INT && kill -INT $$";
    let output = common::at_terminal(project, &["sdk", "run", "sh", "-c", asked]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(5), "{said}");
}
