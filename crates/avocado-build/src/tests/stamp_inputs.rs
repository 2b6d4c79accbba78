//! Each step runs again for what it consumes, and for nothing else.

use std::fs;

use super::fake_backend::FakeBackend;
use super::graphs::{EXTENSIONS, HELLO, TWO_RUNTIMES};
use super::test_project::TestProject;
use crate::goal::Goal;

const LAST: [&str; 4] = [
    "runtime build dev",
    "runtime repository dev",
    "runtime var dev",
    "runtime vm dev",
];

/// A project that is up to date.
fn built(yaml: &str) -> TestProject {
    let project = TestProject::new(yaml);
    project.build();
    assert!(project.build().is_empty());
    project
}

/// These steps, and the last ones of the runtime of hello.
fn and_last<'s>(steps: &[&'s str]) -> Vec<&'s str> {
    steps.iter().copied().chain(LAST).collect()
}

#[test]
fn the_content_of_an_overlay() {
    let project = built(HELLO);
    project.write("overlay/app/etc/app.conf", "a = 2\n");
    let expected = and_last(&["ext build hello-config", "ext image hello-config"]);
    assert_eq!(project.build(), expected);
}

#[test]
fn an_overlay_that_was_another_one_when_it_was_copied() {
    let accounts = "extensions:\n  accounts:\n    version: 1.0.0\n    types: [confext]\n    \
                    users: {root: {password: ''}}\n";
    let mut yaml = HELLO.to_owned();
    for (old, new) in [
        ("\nrootfs:\n", "\nrootfs:\n  overlay: overlay/app\n"),
        ("[hello, hello-config]", "[accounts, hello, hello-config]"),
        ("\nextensions:\n", &format!("\n{accounts}")),
    ] {
        assert!(yaml.contains(old), "{old}");
        yaml = yaml.replace(old, new);
    }
    let project = TestProject::new(&yaml);
    let goal = Goal::Build {
        runtime: None,
        var: true,
    };
    let edited = || {
        let mut backend = FakeBackend::new(&project.options.project);
        backend.edits_overlays = true;
        let mut ran = project.run_on(backend, &goal).unwrap().ran;
        ran.sort();
        ran
    };
    edited();
    let again = [
        "ext build accounts",
        "ext build hello-config",
        "rootfs image dev",
    ];
    let mut ran = edited();
    ran.retain(|step| again.contains(&step.as_str()));
    assert_eq!(ran, again);
    let ran = project.build();
    assert!(
        again.iter().all(|step| ran.iter().any(|r| r == step)),
        "{ran:?}"
    );
    assert!(project.build().is_empty());
}

#[test]
fn the_content_of_a_hook() {
    let project = built(EXTENSIONS);
    project.write("hook.sh", "false\n");
    assert_eq!(project.build(), ["ext build hooked", "ext image hooked"]);
    let project = built(TWO_RUNTIMES);
    project.write("hook.sh", "false\n");
    assert_eq!(
        project.build(),
        [
            "rootfs image two",
            "runtime build two",
            "runtime repository two",
            "runtime var two"
        ]
    );
}

#[test]
fn a_file_for_the_var_partition() {
    let project = built(HELLO);
    project.write("seed.txt", "another\n");
    assert_eq!(project.build(), ["runtime var dev", "runtime vm dev"]);
}

#[test]
fn the_version_of_an_extension() {
    let mut project = built(HELLO);
    let image = ".avocado/state/qemux86-64/output/extensions/hello-1.0.0.raw";
    assert!(project.path(image).is_file());
    project.edit("version: 1.0.0", "version: 1.0.1");
    let expected = and_last(&["ext build hello", "ext image hello"]);
    assert_eq!(project.build(), expected);
    assert!(!project.path(image).exists());
}

#[test]
fn what_shapes_an_image_or_the_times_in_its_tree() {
    let mut project = built(HELLO);
    project.edit("    filesystem: erofs-lz4", "    filesystem: squashfs");
    assert_eq!(project.build(), and_last(&["ext image hello-config"]));
    project.edit("  filesystem: erofs-lz4", "  filesystem: erofs");
    assert_eq!(project.build(), and_last(&["rootfs image dev"]));
    project.edit("1767225600", "1767225601");
    let images = [
        "ext build hello",
        "ext build hello-config",
        "ext image hello",
        "ext image hello-config",
        "ext install hello",
        "initramfs image dev",
        "initramfs install",
        "rootfs image dev",
        "rootfs install",
    ];
    let mut ran = project.build();
    ran[..images.len()].sort();
    assert_eq!(ran, and_last(&images));
}

#[test]
fn the_tools_that_write_an_image() {
    let project = built(HELLO);
    let mut other_tools = FakeBackend::new(&project.options.project);
    other_tools.tools = "1.1";
    let all = Goal::Build {
        runtime: None,
        var: true,
    };
    let report = project.run_on(other_tools, &all).unwrap();
    // The same bytes again, but for the var partition: nothing else is published.
    assert_eq!(
        report.ran,
        [
            "ext image hello",
            "ext image hello-config",
            "rootfs image dev",
            "initramfs image dev",
            "runtime var dev"
        ]
    );
}

#[test]
fn packages() {
    let mut project = built(HELLO);
    project.edit("      hello-tools: \"*\"\n", "");
    let expected = ["ext install hello", "ext build hello"];
    let ran = project.build();
    assert_eq!(ran[..2], expected);
    // The fake build makes the same of it, so the ripple ends there.
    assert_eq!(ran.len(), 2);
}

#[test]
fn a_rootfs_is_consumed_by_those_who_look_into_it() {
    let mut project = built(TWO_RUNTIMES);
    project.edit(
        "small-rootfs: \"*\"",
        "small-rootfs: \"*\"\n      more: \"*\"",
    );
    assert_eq!(
        project.build(),
        [
            "rootfs install small",
            "rootfs image two",
            "runtime install two",
            "runtime build two",
            "runtime repository two",
            "runtime var two"
        ]
    );
}

#[test]
fn dnf_arguments_repeat_the_installs_and_an_equal_result_ends_the_ripple() {
    let mut project = built(HELLO);
    project.options.dnf_args = vec!["--nodocs".into()];
    assert_eq!(
        project.build(),
        [
            "sdk install",
            "rootfs install",
            "initramfs install",
            "ext install hello",
            "runtime install dev"
        ]
    );
}

#[test]
fn a_lost_result_and_nothing_but_it() {
    let project = built(HELLO);
    let prefix = ".avocado/state/qemux86-64";
    fs::remove_file(project.path(&format!("{prefix}/output/extensions/hello-1.0.0.raw"))).unwrap();
    assert_eq!(project.build(), ["ext image hello"]);
    fs::remove_dir_all(project.path(&format!("{prefix}/kernel"))).unwrap();
    assert_eq!(project.build(), ["rootfs install"]);
    fs::remove_file(project.path(&format!("{prefix}/output/runtimes/dev/vm/Image"))).unwrap();
    assert_eq!(project.build(), ["runtime vm dev"]);
    let metadata = format!("{prefix}/output/runtimes/dev/repository/metadata");
    fs::remove_file(project.path(&format!("{metadata}/timestamp.json"))).unwrap();
    assert_eq!(project.build(), ["runtime repository dev"]);
}

#[test]
fn metadata_that_expire_are_signed_again() {
    let mut project = built(HELLO);
    project.options.now = "2026-01-07T01:00:00Z".parse().unwrap();
    assert_eq!(project.build(), ["runtime repository dev"]);
    assert!(project.build().is_empty());
}

#[test]
fn the_lock_that_an_install_writes_is_no_change() {
    let project = TestProject::new(HELLO);
    project.run(&Goal::Install).unwrap();
    let lock = fs::read_to_string(project.path("avocado.lock")).unwrap();
    assert!(lock.contains("\"1-r0.all\""), "{lock}");
    assert!(project.run(&Goal::Install).unwrap().ran.is_empty());
    // Another version in it is one, to the tree that has it.
    project.write("avocado.lock", &lock.replacen("1-r0.all", "2-r0.all", 1));
    assert_eq!(project.run(&Goal::Install).unwrap().ran.len(), 1);
}

/// What an earlier version of the program made of these inputs is not good any more, so their
/// hashes are others.
#[test]
fn a_result_of_another_meaning_is_made_anew() {
    let project = built(HELLO);
    for (stamp, before) in [
        (
            "ext/hello/build",
            "sha256:4103c51df9b5077f87bd62d77d3f61920538a78ad841efe28df58a425c808e10",
        ),
        (
            "ext/hello/image",
            "sha256:0440fae87b0ab2da28220ec60b2e3d21bd8b0b6816c9712fb7ba056a47dfb4fd",
        ),
        (
            "runtime/dev/rootfs-image",
            "sha256:9e17876f39485a263223230468e598b771f51e8a2af65c2c2d2b5db38a60ce14",
        ),
        (
            "runtime/dev/initramfs-image",
            "sha256:c7583a162f9882fd42cb45449c6c49337bbb118991f66911e1fa5d4341e82bf1",
        ),
    ] {
        let path = format!(".avocado/state/qemux86-64/.stamps/{stamp}.stamp");
        let text = fs::read(project.path(&path)).unwrap();
        let stamp: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_ne!(stamp["inputs"]["config_hash"], before, "{path}");
    }
}
