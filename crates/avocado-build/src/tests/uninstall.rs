//! What goes with the last package, and with the last one that was compiled.

use std::fs;
use std::path::PathBuf;

use super::test_project::TestProject;
use crate::goal::Goal;

const PROJECT: &str = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
sdk: {compile: {kernel: {compile: hook.sh}, tool: {compile: hook.sh}}}
rootfs: {packages: {avocado-pkg-rootfs: '*'}}
extensions: {app: {version: 1.0.0, packages: {hello: '*'}}}
runtimes:
  dev:
    extensions: [app]
    packages: {deploy: '*', tool: {compile: tool, install: hook.sh}}
    post_build: hook.sh
";

const EVERYTHING: Goal = Goal::Build {
    runtime: None,
    var: true,
};

fn state(project: &TestProject, path: &str) -> PathBuf {
    project.path(".avocado/state/qemux86-64").join(path)
}

fn locked(project: &TestProject) -> serde_json::Value {
    let lock = fs::read(project.path("avocado.lock")).unwrap();
    let lock: serde_json::Value = serde_json::from_slice(&lock).unwrap();
    lock["targets"]["qemux86-64"].clone()
}

#[test]
fn with_the_last_package_of_a_tree_go_the_tree_and_what_is_locked_of_it() {
    let mut project = TestProject::new(PROJECT);
    project.build();
    let trees = [".work/extensions/app", ".work/runtimes/dev"].map(|path| state(&project, path));
    project.edit("{hello: '*'}", "{}");
    project.edit("{deploy: '*', ", "{");
    project.options.locked = true;
    let before = locked(&project);
    let error = project.run(&EVERYTHING).unwrap_err();
    let said = avocado_events::chain(&error);
    assert!(said.contains("would have to change"), "{said}");
    assert_eq!(locked(&project), before);
    assert!(trees.iter().all(|tree| tree.is_dir()));

    project.options.locked = false;
    let ran = project.build();
    for step in ["ext build app", "runtime compile dev", "runtime var dev"] {
        assert!(ran.contains(&step.to_owned()), "{step}: {ran:?}");
    }
    assert!(!trees.iter().any(|tree| tree.exists()));
    assert!(!state(&project, "runtimes/dev/.packages.json").exists());
    let now = locked(&project);
    for kind in ["extensions", "runtimes"] {
        assert!(
            before.get(kind).is_some() && now.get(kind).is_none(),
            "{now}"
        );
    }
    let headers = now["package-headers"].as_object().unwrap();
    let of_none = |key: &&String| key.contains("app") || key.contains("dev");
    assert_eq!(headers.keys().find(of_none), None);
    assert_eq!(project.build(), [""; 0]);
    project.options.locked = true;
    assert_eq!(project.build(), [""; 0]);

    // And they come again.
    project.options.locked = false;
    project.edit("packages: {}", "packages: {hello: '*'}");
    assert!(project.build().contains(&"ext install app".to_owned()));
    assert!(trees[0].is_dir());
}

#[test]
fn what_was_compiled_for_a_runtime_goes_when_nothing_is_any_more() {
    let mut project = TestProject::new(PROJECT);
    project.build();
    let [tools, deploy, place] = [
        "runtimes/dev/tools",
        "runtimes/dev/deploy",
        ".work/runtimes-compiled/dev",
    ]
    .map(|path| state(&project, path));
    assert!(tools.is_file() && place.is_dir());
    project.edit(", tool: {compile: tool, install: hook.sh}", "");
    let ran = project.build();
    assert!(ran.contains(&"runtime var dev".to_owned()), "{ran:?}");
    assert!(!tools.exists() && !place.exists());
    // Of the packages, over which it lay.
    assert_eq!(fs::read_to_string(&deploy).unwrap(), ".packages.json");
    assert_eq!(project.build(), [""; 0]);

    // With nothing else beside it.
    project.edit("{deploy: '*'}", "{tool: {compile: tool, install: hook.sh}}");
    project.build();
    assert!(tools.is_file());
    project.edit("{tool: {compile: tool, install: hook.sh}}", "{}");
    project.build();
    assert!(!tools.exists() && !deploy.exists() && !place.exists());
    assert_eq!(project.build(), [""; 0]);
}

#[test]
fn a_rootfs_whose_runtimes_compile_their_kernel_is_locked_without_one() {
    let mut project = TestProject::new(PROJECT);
    project.build();
    assert_eq!(locked(&project)["kernel-versions"]["rootfs"], "6.12.0");
    project.edit(
        "    post_build",
        "    kernel: {compile: kernel, install: hook.sh}\n    post_build",
    );
    project.build();
    assert_eq!(locked(&project).get("kernel-versions"), None);
    assert_eq!(project.build(), [""; 0]);
}

#[test]
fn the_published_packages_of_a_runtime_are_looked_for() {
    let project = TestProject::new(PROJECT);
    project.build();
    fs::remove_dir_all(state(&project, "runtimes/dev")).unwrap();
    let ran = project.build();
    assert!(ran.contains(&"runtime install dev".to_owned()), "{ran:?}");
    assert!(state(&project, "runtimes/dev/deploy").is_file());
}
