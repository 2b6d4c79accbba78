//! Kernels that more than one step has.

use super::test_project::TestProject;
use crate::goal::Goal;

const SHARED: &str = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
sdk: {compile: {kernel: {compile: hook.sh}}}
runtimes: {dev: {}, prod: {}}
";

#[test]
fn a_runtime_that_gets_another_kernel_takes_none_from_others() {
    let mut project = TestProject::new(SHARED);
    let kernels = |project: &TestProject| {
        let report = project.run(&Goal::KernelImage).unwrap();
        let artifacts = report.artifacts.into_iter();
        let kernels = artifacts.filter(|artifact| artifact.kind == "kernel");
        let named = kernels.map(|kernel| {
            assert!(kernel.path.exists(), "{kernel:?}");
            kernel.name
        });
        (named.collect::<Vec<_>>(), report.ran)
    };
    let both = ["dev 6.12.0", "prod 6.12.0"];
    assert_eq!(kernels(&project).0, both);
    let compiled = "dev: {kernel: {compile: kernel, install: hook.sh}}";
    project.edit("dev: {}", compiled);
    let (named, ran) = kernels(&project);
    assert_eq!(named, ["dev 6.12.69", "prod 6.12.0"]);
    assert!(!ran.contains(&"kernel image prod".to_owned()), "{ran:?}");
    project.edit(compiled, "dev: {}");
    assert_eq!(kernels(&project).0, both);
    assert_eq!(kernels(&project).1, [""; 0]);

    // It has to be there all the same.
    let state = project.options.project.state_dir().join("qemux86-64");
    std::fs::remove_file(state.join("kernel/6.12.0/Image")).unwrap();
    project.run(&Goal::KernelImage).unwrap_err();
}

#[test]
fn a_rootfs_that_gets_another_kernel_takes_none_from_others() {
    let mut project = TestProject::new(
        "default_target: qemux86-64
distro: {release: '2024', channel: edge}
rootfs: {one: {packages: {a: '*'}}, two: {packages: {a: '*'}}}
kernel: {version: 6.12.0}
runtimes: {one: {rootfs: one}, two: {rootfs: two}}
",
    );
    project.build();
    project.edit(
        "one: {rootfs: one}",
        "one: {rootfs: one, kernel: {version: 6.6.52}}",
    );
    project.build();
    let kernels = project
        .options
        .project
        .state_dir()
        .join("qemux86-64/kernel");
    for version in ["6.6.52", "6.12.0"] {
        assert!(kernels.join(version).join("Image").exists(), "{version}");
    }
    assert_eq!(project.build(), [""; 0]);
}

#[test]
fn packages_for_a_kernel_wait_for_it_in_every_tree() {
    let yaml = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
rootfs: {kernel-6.12.*: {packages: {for-rootfs: '*'}}}
initramfs: {packages: {a: '*', kernel-<6: {old: '*'}}}
sdk: {compile: {c: {compile: hook.sh, kernel-6.12.*: {packages: {for-sysroot: '*'}}}}}
extensions: {app: {version: 1.0.0, packages: {own: {compile: c, install: hook.sh}}}}
runtimes: {dev: {extensions: [app]}}
";
    let mut project = TestProject::new(yaml);
    project.build();
    // Which ones they are is an input of the tree that they are for, and of no other.
    for (old, new, step) in [
        ("for-rootfs", "another", "rootfs install"),
        ("old: '*'", "old: '1'", "initramfs install"),
        (
            "6.12.*: {packages: {for-s",
            "6.*: {packages: {for-s",
            "sdk install target-sysroot",
        ),
    ] {
        project.edit(old, new);
        let ran = project.build();
        assert!(ran.contains(&step.to_owned()), "{new}: {ran:?}");
        let others = [
            "rootfs install",
            "initramfs install",
            "sdk install target-sysroot",
        ];
        for other in others.into_iter().filter(|other| *other != step) {
            // Trees are made anew for another kernel, or for other packages of the rootfs.
            let may = step == "rootfs install";
            assert!(may || !ran.contains(&other.to_owned()), "{new}: {ran:?}");
        }
        assert_eq!(project.build(), [""; 0], "{new}");
    }
}
