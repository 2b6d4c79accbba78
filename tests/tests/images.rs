//! Each format that an image can have: written by the real tools, and read by others than those.

mod common;

use std::fs;
use std::path::Path;

use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without};
use common::{Sandbox, cannot_build};

/// Adds lines to `yaml` behind one that is in it, and makes that the project.
fn add_behind(project: &TestProject, yaml: &str, line: &str, lines: &str) {
    let (before, after) = yaml.split_once(line).unwrap();
    let yaml = format!("{before}{line}{lines}{after}");
    project.write("avocado.yaml", &yaml).unwrap();
}

#[test]
fn each_format_of_an_extension_holds_its_files() {
    if cannot_build("each_format_of_an_extension_holds_its_files") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let overlay = "overlay/hello-config";
    for (name, text) in [
        ("etc/hello/long", "the same line\n".repeat(10_000).as_str()),
        ("var/lib/hello/seed", "seed"),
        ("var/lib/hello/deep/er", "seed"),
        ("var/lib/hello-too/kept", "kept"),
    ] {
        project.write(&format!("{overlay}/{name}"), text).unwrap();
    }
    let yaml = project.read("avocado.yaml").unwrap();
    let yaml = yaml.replace("    filesystem: erofs-lz4\n    overlay", "    overlay");
    let point = sandbox.directory.path().join("mnt");
    fs::create_dir(&point).unwrap();
    // Where nothing is said, it is squashfs.
    for (line, kind) in [
        ("", "squashfs"),
        ("    filesystem: squashfs\n", "squashfs"),
        ("    filesystem: erofs\n", "erofs"),
        ("    filesystem: erofs-lz4\n", "erofs"),
        ("    filesystem: erofs-zst\n", "erofs"),
    ] {
        let lines = format!("    var_files: [var/lib/hello/**]\n{line}");
        add_behind(project, &yaml, "    types: [confext]\n", &lines);
        let image = ["ext", "image", "-e", "hello-config", "--out", "./dist/"];
        let made = project.avocado(&image).run().unwrap();
        if !made.status.success() && line.contains("erofs-zst") {
            // mkfs.erofs of Debian 12 has no zstd.
            assert!(made.stderr.contains("erofs-utils 1.8"), "{made}");
        } else {
            assert!(made.status.success(), "{line}: {made}");
            let file = project.directory().join("dist/hello-config-1.0.0.raw");
            holds_its_files(&file, kind, &point, &project.directory().join(overlay));
            fs::remove_file(file).unwrap();
        }
    }
}

fn holds_its_files(image: &Path, kind: &str, point: &Path, overlay: &Path) {
    let mount = ToolCall::new("mount").args(["-t", kind, "-o", "loop,ro"]);
    mount.arg(image).arg(point).ok().unwrap();
    let read = |name: &str| fs::read(point.join(name)).ok();
    let found = [
        "etc/hello/greeting",
        "etc/hello/long",
        "var/lib/hello-too/kept",
    ]
    .map(read);
    let left_out = ["var/lib/hello/seed", "var/lib/hello/deep/er"].map(read);
    let release = read("etc/extension-release.d/extension-release.hello-config-1.0.0");
    ToolCall::new("umount").arg(point).ok().unwrap();
    let expected = [
        "etc/hello/greeting",
        "etc/hello/long",
        "var/lib/hello-too/kept",
    ]
    .map(|name| fs::read(overlay.join(name)).ok());
    assert!(
        found == expected && found.iter().all(Option::is_some),
        "{kind}"
    );
    assert_eq!(left_out, [None, None], "{kind}");
    assert!(release.is_some(), "{kind}");
}

#[test]
fn each_format_of_an_initramfs_is_what_others_read() {
    let name = "each_format_of_an_initramfs_is_what_others_read";
    let tools = ["cpio", "gzip", "lz4", "zstd"].map(TestNeed::Tool);
    if cannot_build(name) || skip_without(name, &tools) {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let yaml = project.read("avocado.yaml").unwrap();
    let image = |format: &str| format!("dist/avocado-image-initramfs-qemux86-64.{format}");
    let mut listings = Vec::new();
    // Where nothing is said, it is cpio.zst.
    for (line, format, tool) in [
        ("", "cpio.zst", Some("zstd")),
        ("  filesystem: cpio.zst\n", "cpio.zst", Some("zstd")),
        ("  filesystem: cpio.gz\n", "cpio.gz", Some("gzip")),
        ("  filesystem: cpio.lz4\n", "cpio.lz4", Some("lz4")),
        ("  filesystem: cpio\n", "cpio", None),
    ] {
        add_behind(project, &yaml, "initramfs:\n", line);
        project
            .avocado(&["initramfs", "image", "--out", "dist"])
            .ok()
            .unwrap();
        let image = project.directory().join(image(format));
        let archive = match tool {
            None => image,
            // Each of them names the result as the file without its last extension.
            Some(tool) => {
                let mut unpacked = ToolCall::new(tool).args(["-d", "-f", "-q", "-k"]);
                if tool == "lz4" {
                    // One file alone goes to its standard output.
                    unpacked = unpacked.arg("-m");
                }
                unpacked.arg(&image).ok().unwrap();
                image.with_extension("")
            }
        };
        let listing = ToolCall::new("cpio").args(["-i", "-t", "--quiet", "-F"]);
        listings.push((format, listing.arg(&archive).ok().unwrap().stdout));
        fs::remove_file(archive).unwrap();
    }
    let (_, first) = &listings[0];
    for file in ["init", "sysroot", "usr/bin/busybox"] {
        assert!(first.lines().any(|line| line == file), "{file}: {first}");
    }
    for (format, listing) in &listings {
        assert_eq!(listing, first, "{format}");
    }
}
