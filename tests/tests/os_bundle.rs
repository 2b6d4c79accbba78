//! OS bundles, made by the real tools of a project whose target can update its OS.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use avocado_manifest::os_bundle::{OS_BUNDLE_FILE, OsBundleChunks, OsBundleDescription};
use avocado_manifest::{Digest, ImageId, Manifest};
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without};
use common::{Sandbox, cannot_build, ran};

const STONE: &str = include_str!("os_bundle/stone.json");
const ENTRY: &str =
    "title Avocado\nlinux /bzImage\ninitrd /initramfs\noptions root=PARTLABEL=rootfs-a ro\n";

/// The sample project on a board that updates its OS.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let yaml = project.read("avocado.yaml").unwrap();
    let yaml = yaml.replace(
        "    extensions: [hello, hello-config]\n",
        "    extensions: [hello, hello-config]\n    \
             stone_manifest: board/stone.json\n    stone_include_paths: [board/files]\n",
    );
    project.write("avocado.yaml", &yaml).unwrap();
    project.write("board/stone.json", STONE).unwrap();
    project.write("board/files/entry.conf", ENTRY).unwrap();
    sandbox
}

fn skips(name: &str) -> bool {
    let tools = ["mkfs.fat", "mcopy", "mdir", "mtype", "tar", "zstd"].map(TestNeed::Tool);
    cannot_build(name) || skip_without(name, &tools)
}

fn output(project: &TestProject) -> PathBuf {
    project.state().join("output/runtimes/dev")
}

fn manifest(project: &TestProject) -> Manifest {
    Manifest::parse(&fs::read(output(project).join("manifest.json")).unwrap()).unwrap()
}

/// What the runtime that was built says of its OS: of the rootfs, and of the initramfs.
fn build_ids(project: &TestProject) -> (String, String) {
    let bundle = manifest(project).os_bundle.unwrap();
    (
        bundle.os_build_id.unwrap(),
        bundle
            .initramfs_build_id
            .expect("the initramfs has a release file"),
    )
}

fn unpack(archive: &Path, to: &Path) -> Vec<String> {
    fs::create_dir_all(to).unwrap();
    let tar = || ToolCall::new("tar").arg("--zstd").arg("-f").arg(archive);
    tar().arg("-C").arg(to).arg("-x").ok().unwrap();
    let listed = tar().arg("-t").ok().unwrap();
    listed.stdout.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn a_bundle_has_what_the_target_boots() {
    if skips("a_bundle_has_what_the_target_boots") {
        return;
    }
    let sandbox = sandbox();
    let project = &sandbox.project;
    let built = ran(project, &["build"]);
    assert!(
        built.contains(&"runtime os-bundle dev".to_owned()),
        "{built:?}"
    );
    let archive = output(project).join("os-bundle.aos");
    let bytes = fs::read(&archive).unwrap();
    let named = manifest(project).os_bundle.unwrap();
    assert_eq!(named.sha256, Some(Digest::of(&bytes)));
    assert_eq!(named.image_id, ImageId::from_digest(Digest::of(&bytes)));

    let unpacked = sandbox.directory.path().join("bundle");
    let names = unpack(&archive, &unpacked);
    assert_eq!(
        names,
        [
            OS_BUNDLE_FILE,
            "images/boot.img",
            "images/avocado-image-rootfs-qemux86-64.erofs-lz4"
        ]
    );
    let stated = fs::read(unpacked.join(OS_BUNDLE_FILE)).unwrap();
    let description = OsBundleDescription::parse(&stated).unwrap();
    assert_eq!(description.os_build_id, named.os_build_id);
    assert_eq!(description.initramfs_build_id, named.initramfs_build_id);
    for artifact in &description.update.unwrap().artifacts {
        let file = fs::read(unpacked.join(artifact.archive_path())).unwrap();
        assert_eq!(artifact.sha256, Digest::of(&file), "{}", artifact.name);
        assert_eq!(artifact.size, Some(file.len() as u64), "{}", artifact.name);
    }

    // The index has all of every artifact, in frames that can be unpacked alone.
    let index = fs::read(output(project).join("os-bundle.chunks")).unwrap();
    let index = OsBundleChunks::parse(&index).unwrap();
    assert_eq!(index.bundle.sha256, Digest::of(&bytes));
    assert_eq!(index.bundle.length, bytes.len() as u64);
    assert_eq!(index.description.as_bytes(), stated);
    assert_eq!(index.artifacts.len(), 2);
    for artifact in &index.artifacts {
        let file = fs::read(unpacked.join("images").join(artifact.file.as_str())).unwrap();
        let mut content = Vec::new();
        for (at, length, chunk) in artifact.places(index.chunk_bytes) {
            let frame = &bytes[chunk.offset as usize..][..chunk.length as usize];
            assert_eq!(chunk.sha256, Digest::of(frame));
            let part = zstd::decode_all(frame).unwrap();
            assert_eq!(chunk.content_sha256, Digest::of(&part));
            assert_eq!((at, length), (content.len() as u64, part.len() as u64));
            content.extend(part);
        }
        assert!(content == file, "{}", artifact.file);
    }

    // The file system of the boot partition, read by others than what wrote it.
    let boot = unpacked.join("images/boot.img");
    let mtools = |tool: &str, path: &str| {
        let call = ToolCall::new(tool).arg("-i").arg(&boot).arg(path);
        call.ok().unwrap().stdout
    };
    assert_eq!(mtools("mtype", "::/loader/entries/avocado.conf"), ENTRY);
    let state = project.state();
    let copied = unpacked.join("initramfs");
    ToolCall::new("mcopy")
        .arg("-i")
        .arg(&boot)
        .arg("::/initramfs")
        .arg(&copied)
        .ok()
        .unwrap();
    let initramfs = state.join("runtimes/dev/avocado-image-initramfs-qemux86-64.cpio.zst");
    assert_eq!(fs::read(copied).unwrap(), fs::read(initramfs).unwrap());
    assert!(mtools("mdir", "::").contains("bzImage"));

    // A device gets it from the repository, or has it from the start.
    let file = named.image_id.file_name();
    let stored = state
        .join("runtimes/dev/var-staging/lib/avocado/images")
        .join(&file);
    assert_eq!(fs::read(stored).unwrap(), bytes);
    let targets = fs::read_dir(output(project).join("repository/targets")).unwrap();
    let names = targets.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.collect();
    for file in [&file, &OsBundleChunks::file_name(&named.image_id)] {
        assert!(names.iter().any(|name| name.ends_with(file)), "{file}");
    }

    assert_eq!(ran(project, &["build"]), [""; 0]);
    fs::remove_dir_all(project.directory().join(".avocado")).unwrap();
    ran(project, &["build"]);
    assert!(
        fs::read(&archive).unwrap() == bytes,
        "the same sources give the same bytes"
    );
}

/// An update that devices do not notice is one that they do not get.
#[test]
fn an_os_has_another_id_if_and_only_if_a_byte_of_it_changed() {
    if skips("an_os_has_another_id_if_and_only_if_a_byte_of_it_changed") {
        return;
    }
    let sandbox = sandbox();
    let project = &sandbox.project;
    let yaml = project.read("avocado.yaml").unwrap();
    let yaml = yaml
        .replace(
            "  filesystem: erofs-lz4\n  permissions: dev\n",
            "  filesystem: erofs-lz4\n  permissions: dev\n  overlay: board/rootfs\n",
        )
        .replace("initramfs:\n", "initramfs:\n  overlay: board/initramfs\n");
    project.write("avocado.yaml", &yaml).unwrap();
    project.write("board/rootfs/etc/board.conf", "1\n").unwrap();
    project
        .write("board/initramfs/etc/board.conf", "1\n")
        .unwrap();
    let release = "ID=board\n";
    project
        .write("board/initramfs/usr/lib/initrd-release", release)
        .unwrap();
    let build = || {
        project.avocado(&["build", "--no-var"]).ok().unwrap();
        build_ids(project)
    };
    let replaced = |from: &str, to: &str| {
        let yaml = project.read("avocado.yaml").unwrap();
        assert!(yaml.contains(from), "{from}");
        project
            .write("avocado.yaml", &yaml.replace(from, to))
            .unwrap();
    };
    let mut before = build();
    assert_eq!(build(), before);
    type Change<'a> = (&'a str, Box<dyn Fn() + 'a>, (bool, bool));
    let changes: [Change<'_>; 7] = [
        (
            "a kernel argument",
            Box::new(|| {
                project
                    .write("board/files/entry.conf", &ENTRY.replace(" ro", " ro quiet"))
                    .unwrap()
            }),
            (true, false),
        ),
        (
            "a byte of an overlay",
            Box::new(|| project.write("board/rootfs/etc/board.conf", "2\n").unwrap()),
            (true, false),
        ),
        (
            "a permission",
            Box::new(|| replaced("        password: \"\"\n", "        password: \"*\"\n")),
            (true, true),
        ),
        (
            "a package",
            Box::new(|| {
                replaced(
                    "    kernel-image: \"*\"\n",
                    "    kernel-image: \"*\"\n    libgreeting: \"*\"\n",
                )
            }),
            (true, false),
        ),
        (
            "a file of the initramfs",
            Box::new(|| {
                project
                    .write("board/initramfs/etc/board.conf", "2\n")
                    .unwrap()
            }),
            (false, true),
        ),
        (
            "how the OS is updated",
            Box::new(|| {
                project
                    .write(
                        "board/stone.json",
                        &STONE.replace("\"var\": \"slot\"", "\"var\": \"boot_slot\""),
                    )
                    .unwrap()
            }),
            (true, false),
        ),
        (
            "an extension",
            Box::new(|| {
                project
                    .write("overlay/hello-config/etc/hello/greeting", "Ahoy.\n")
                    .unwrap()
            }),
            (false, false),
        ),
    ];
    for (what, change, (rootfs, initramfs)) in changes {
        change();
        let after = build();
        let differs = (after.0 != before.0, after.1 != before.1);
        assert_eq!(differs, (rootfs, initramfs), "{what}");
        assert_eq!(build(), after, "{what}");
        before = after;
    }
    // A hook, which may do anything.
    project.write("board/hook.sh", "mkdir -p \"$AVOCADO_ROOTFS_SYSROOT/opt\"\ntouch \"$AVOCADO_ROOTFS_SYSROOT/etc/machine-id\"\n").unwrap();
    replaced(
        "  overlay: board/rootfs\n",
        "  overlay: board/rootfs\n  post_install: board/hook.sh\n",
    );
    let hooked = build();
    assert_ne!(hooked.0, before.0);
    project.write("board/hook.sh", "mkdir -p \"$AVOCADO_ROOTFS_SYSROOT/opt\"\necho 1 >\"$AVOCADO_ROOTFS_SYSROOT/opt/one\"\ntouch \"$AVOCADO_ROOTFS_SYSROOT/etc/machine-id\"\n").unwrap();
    assert_ne!(build().0, hooked.0);
}

#[test]
fn what_a_bundle_cannot_be_made_of_is_told() {
    if skips("what_a_bundle_cannot_be_made_of_is_told") {
        return;
    }
    let sandbox = sandbox();
    let project = &sandbox.project;
    let refused = |words: &[&str]| {
        let output = project.avocado(&["build", "--no-var"]).run().unwrap();
        assert!(!output.status.success(), "{output}");
        for word in words {
            assert!(output.stderr.contains(word), "{word}: {output}");
        }
    };
    project
        .write(
            "board/stone.json",
            &STONE.replace("entry.conf", "other.conf"),
        )
        .unwrap();
    refused(&["`other.conf`", "board/files", "stone_include_paths"]);
    project
        .write(
            "board/stone.json",
            &STONE.replace("\"size\": 128,", "\"size\": 1,"),
        )
        .unwrap();
    refused(&["partition `rootfs-a`", "make the partition larger"]);
    project
        .write(
            "board/stone.json",
            &STONE.replace("\"uboot-env\"", "\"oracle\""),
        )
        .unwrap();
    refused(&["oracle"]);
    project.write("board/stone.json", "{").unwrap();
    refused(&["board/stone.json"]);
    fs::remove_file(project.directory().join("board/stone.json")).unwrap();
    refused(&[
        "avocado.yaml:",
        "stone manifest `board/stone.json` does not exist",
    ]);
    // What it is of is not what stopped the others: each is made alone.
    project
        .avocado(&["ext", "image", "-e", "hello"])
        .ok()
        .unwrap();
}
