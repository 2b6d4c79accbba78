//! Extensions that come from elsewhere.

use std::fs;
use std::path::Path;

use super::test_project::TestProject;
use crate::goal::Goal;

/// A project whose extension is a directory beside it.
fn with_neighbour(near: &Path) -> TestProject {
    let files = near.join("files/usr/share");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("text"), "1").unwrap();
    fs::write(near.join("hook.sh"), "true\n").unwrap();
    let text = "extensions: {near: {version: 1.0.0, overlay: files, post_build: hook.sh}}\n";
    fs::write(near.join("avocado.yaml"), text).unwrap();
    TestProject::new(&format!(
        "default_target: qemux86-64\n\
         extensions: {{near: {{source: {{type: path, path: '{}'}}}}}}\n",
        near.display()
    ))
}

#[test]
fn a_directory_is_used_where_it_is() {
    let near = tempfile::tempdir().unwrap();
    let project = with_neighbour(near.path());
    let goal = Goal::ExtImage(None);
    let run = || project.run(&goal).unwrap().ran;
    let both = ["ext build near", "ext image near"];
    assert_eq!(run(), ["sdk install", "ext build near", "ext image near"]);
    assert_eq!(run(), [""; 0]);
    fs::write(near.path().join("files/usr/share/text"), "2").unwrap();
    assert_eq!(run(), both);
    fs::write(near.path().join("hook.sh"), "true 2\n").unwrap();
    assert_eq!(run(), both);
    assert_eq!(run(), [""; 0]);
}

#[test]
fn what_is_not_here_is_told_by_the_step_that_needs_it() {
    let near = tempfile::tempdir().unwrap();
    let mut project = with_neighbour(near.path());
    project.edit("extensions: {", "extensions: {own: {version: 1.0.0}, ");
    fs::remove_dir_all(near.path()).unwrap();
    project.edit("default_target", "# x\ndefault_target");
    let own = Goal::ExtImage(Some("own".parse().unwrap()));
    project.run(&own).unwrap();
    for goal in [
        Goal::ExtImage(None),
        Goal::ExtBuild(Some("near".parse().unwrap())),
    ] {
        let error = project.run(&goal).unwrap_err();
        let said = error.to_string();
        let place = project.path("avocado.yaml:3:");
        let expected = format!("the extension `near` ({}", place.display());
        assert!(said.starts_with(&expected), "{said}");
        assert!(said.ends_with(&*near.path().to_string_lossy()), "{said}");
        assert!(error.hint().unwrap().contains("change `path`"));
    }
}

#[test]
fn a_project_below_its_extension_does_not_build_for_its_own_state() {
    let mut project = TestProject::new("default_target: qemux86-64\n");
    project.write("hook.sh", "true\n");
    let text = "extensions: {all: {version: 1.0.0, post_build: hook.sh}}\n";
    project.write("avocado.yaml", text);
    let board = project.path("boards/x");
    fs::create_dir_all(&board).unwrap();
    let text = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
rootfs: {post_install: hook.sh}
extensions: {all: {source: {type: path, path: ../..}}}
runtimes: {dev: {extensions: [all]}}
";
    project.write("boards/x/hook.sh", "true\n");
    project.write("boards/x/avocado.yaml", text);
    project.load("boards/x/avocado.yaml");
    project.build();
    assert_eq!(project.build(), [""; 0]);
    project.write("boards/new", "1\n");
    assert_eq!(project.build(), ["ext build all"]);
}
