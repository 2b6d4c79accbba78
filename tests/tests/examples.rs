//! The examples, built as they are in a fresh clone, for each of their targets.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without};
use common::{Sandbox, cannot_build, cannot_compile};
use serde_json::Value;

/// What is in an image of an extension.
fn unpacked(sandbox: &Sandbox, image: &Path) -> PathBuf {
    let name = image.file_stem().unwrap();
    let tree = sandbox.directory.path().join("unpacked").join(name);
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(tree.parent().unwrap()).unwrap();
    if fs::read(image).unwrap().starts_with(b"hsqs") {
        let unpack = ToolCall::new("unsquashfs").args(["-f", "-d"]).arg(&tree);
        unpack.arg(image).ok().unwrap();
    } else {
        let unpack = ToolCall::new("fsck.erofs").arg(format!("--extract={}", tree.display()));
        unpack.arg(image).ok().unwrap();
    }
    tree
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names and versions of the extensions of the runtime's manifest, in their order.
fn members(state: &Path) -> Vec<String> {
    let manifest = text(&state.join("output/runtimes/dev/manifest.json"));
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let extensions = manifest["extensions"].as_array().unwrap().iter();
    let names = extensions.map(|extension| extension["name"].as_str().unwrap().to_owned());
    names.collect()
}

/// The packages that are locked for an extension.
fn packages(project: &TestProject, target: &str, extension: &str) -> BTreeSet<String> {
    let lock: Value = serde_json::from_str(&project.read("avocado.lock").unwrap()).unwrap();
    let runtime = &lock["targets"][target]["runtimes"]["dev"];
    let packages = runtime["extensions"][extension]["packages"].as_object();
    let shared = lock["targets"][target]["extensions"][extension]["packages"].as_object();
    let packages = packages.or(shared).into_iter().flatten();
    packages.map(|(name, _)| name.clone()).collect()
}

/// What `config show` and `ext list` say of a target; what was wrong would be an error.
fn shown(project: &TestProject, target: &str) -> (Value, String) {
    let show = ["config", "show", "--detail", "--target", target];
    let shown = project.avocado(&show).args(["--output", "json"]).ok();
    let shown = serde_json::from_str(&shown.unwrap().stdout).unwrap();
    let listed = project.avocado(&["ext", "list", "--target", target]).ok();
    (shown, listed.unwrap().stdout)
}

#[test]
fn what_differs_for_a_target_is_in_its_images_alone() {
    const NAME: &str = "what_differs_for_a_target_is_in_its_images_alone";
    if cannot_build(NAME) || skip_without(NAME, &[TestNeed::Tool("fsck.erofs")]) {
        return;
    }
    let sandbox = Sandbox::example("per-target");
    let project = &sandbox.project;
    for (target, extensions, greeting, filesystem, has_tools) in [
        (
            "qemux86-64",
            ["app", "guest"].as_slice(),
            "Hello from QEMU.\n",
            "erofs-lz4",
            false,
        ),
        (
            "intel-x86-64",
            &["app"],
            "Hello from a PC.\n",
            "erofs",
            true,
        ),
    ] {
        let (_, listed) = shown(project, target);
        assert!(listed.contains("app"), "{target}: {listed}");
        project
            .avocado(&["build", "--target", target])
            .ok()
            .unwrap();
        let state = project.state_of(target);
        assert_eq!(members(&state), extensions, "{target}");
        let tree = unpacked(&sandbox, &state.join("output/extensions/app-1.0.0.raw"));
        assert_eq!(text(&tree.join("etc/hello/greeting")), greeting, "{target}");
        let packages = packages(project, target, "app");
        assert!(packages.contains("hello"), "{target}: {packages:?}");
        assert_eq!(packages.contains("hello-tools"), has_tools, "{target}");
        let rootfs = format!("runtimes/dev/avocado-image-rootfs-{target}.{filesystem}");
        assert!(state.join(rootfs).exists(), "{target}");
        // The other target changes nothing of this one.
        let nothing = project.events(&["build", "--target", target]).unwrap();
        assert_eq!(nothing.complete()["ran"], 0, "{target}");
    }
    let nothing = project.events(&["build"]).unwrap();
    assert_eq!(nothing.complete()["ran"], 0);
}

#[test]
fn a_container_is_on_the_var_partition_and_its_hooks_in_the_extension() {
    if cannot_compile("a_container_is_on_the_var_partition_and_its_hooks_in_the_extension") {
        return;
    }
    let sandbox = Sandbox::example("containers");
    let project = &sandbox.project;
    project.avocado(&["build"]).ok().unwrap();
    let state = project.state();
    assert_eq!(members(&state), ["web", "engine"]);
    let container = state.join("runtimes/dev/var-staging/lib/web/rootfs");
    assert_eq!(text(&container.join("page")), "Served from a container.\n");
    // It runs where there is nothing else.
    let program = fs::read(container.join("web")).unwrap();
    assert!(program.starts_with(b"\x7fELF"));
    let needed = ToolCall::new("ldd").arg(container.join("web")).run();
    let needed = needed.unwrap();
    assert!(
        !needed.status.success() && needed.stderr.contains("not a dynamic executable"),
        "{needed}"
    );
    let web = unpacked(&sandbox, &state.join("output/extensions/web-1.0.0.raw"));
    assert!(web.join("usr/lib/systemd/system/web.service").exists());
    assert!(!web.join("var/lib/web").exists());
    let release = text(&web.join("usr/lib/extension-release.d/extension-release.web-1.0.0"));
    for line in [
        "AVOCADO_ENABLE_SERVICES=\"web.service\"",
        "systemctl restart --no-block web.service",
        "systemctl stop web.service",
    ] {
        assert!(release.contains(line), "{line}: {release}");
    }
    let engine = unpacked(&sandbox, &state.join("output/extensions/engine-1.0.0.raw"));
    assert!(engine.join("usr/bin/podman").exists());
    // A new page is on the next device.
    let page = "overlay/web/var/lib/web/rootfs/page";
    project.write(page, "Another page.\n").unwrap();
    project.avocado(&["build"]).ok().unwrap();
    assert_eq!(text(&container.join("page")), "Another page.\n");
}

#[test]
fn each_board_has_its_own_support_from_one_source() {
    const NAME: &str = "each_board_has_its_own_support_from_one_source";
    if cannot_build(NAME) || skip_without(NAME, &[TestNeed::Tool("fsck.erofs")]) {
        return;
    }
    let sandbox = Sandbox::example("boards");
    let project = &sandbox.project;
    let boards = [
        ("qemux86-64", "virtio_rng", Some("qemu-guest-agent")),
        ("intel-x86-64", "iTCO_wdt", Some("hello-tools")),
        ("raspberrypi4", "i2c-dev", None),
    ];
    for (board, module, package) in boards {
        let support = format!("avocado-bsp-{board}");
        let (shown, listed) = shown(project, board);
        assert!(listed.contains(&support), "{board}: {listed}");
        let shown = shown.to_string();
        for (other, _, _) in boards {
            let named = shown.contains(&format!("avocado-bsp-{other}"));
            assert_eq!(named, other == board, "{board}: {shown}");
        }
        // The sample feed has no packages for the last one.
        let Some(package) = package else {
            continue;
        };
        project.avocado(&["build", "--target", board]).ok().unwrap();
        let state = project.state_of(board);
        assert_eq!(members(&state), ["app", support.as_str()], "{board}");
        let image = format!("output/extensions/{support}-1.0.0.raw");
        let tree = unpacked(&sandbox, &state.join(image));
        assert_eq!(text(&tree.join("etc/board/name")), format!("{board}\n"));
        let release = format!("usr/lib/extension-release.d/extension-release.{support}-1.0.0");
        let release = text(&tree.join(release));
        assert!(release.contains(module), "{board}: {release}");
        let packages = packages(project, board, &support);
        assert!(packages.contains(package), "{board}: {packages:?}");
    }
}
