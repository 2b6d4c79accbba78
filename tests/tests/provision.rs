//! Disks that `avocado provision` makes: what is on them, read by others than what wrote them, and what a
//! disk cannot be made of.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use avocado_testbed::board::on_a_board;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without, static_binary};
use common::{Sandbox, cannot_build, ran};

const DISK: &str = "output/runtimes/dev/stone/avocado-qemux86-64.img";

fn skips(name: &str) -> bool {
    let tools = ["mkfs.fat", "mcopy", "mtype", "sfdisk"].map(TestNeed::Tool);
    cannot_build(name) || skip_without(name, &tools)
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::built();
    on_a_board(&sandbox.project).unwrap();
    sandbox
}

/// A partition as `sfdisk` reads it: its name, where it begins and how long it is, in bytes.
fn partitions(disk: &Path) -> Vec<(String, u64, u64, serde_json::Value)> {
    let read = ToolCall::new("sfdisk")
        .arg("--json")
        .arg(disk)
        .ok()
        .unwrap();
    let table: serde_json::Value = serde_json::from_str(&read.stdout).unwrap();
    let list = table["partitiontable"]["partitions"].as_array().unwrap();
    let bytes = |value: &serde_json::Value| value.as_u64().unwrap() * 512;
    let entry = |p: &serde_json::Value| {
        let name = p["name"].as_str().unwrap().to_owned();
        (name, bytes(&p["start"]), bytes(&p["size"]), p.clone())
    };
    list.iter().map(entry).collect()
}

/// What is in a partition.
fn content(disk: &Path, name: &str) -> Vec<u8> {
    let found = partitions(disk).into_iter().find(|p| p.0 == name).unwrap();
    let mut bytes = vec![0; usize::try_from(found.2).unwrap()];
    File::open(disk)
        .unwrap()
        .read_exact_at(&mut bytes, found.1)
        .unwrap();
    bytes
}

fn starts_with_file(bytes: &[u8], file: &Path) -> bool {
    let file = fs::read(file).unwrap();
    bytes.starts_with(&file) && bytes[file.len()..].iter().all(|byte| *byte == 0)
}

#[test]
fn a_disk_has_what_its_manifest_says_and_the_same_bytes_again() {
    if skips("a_disk_has_what_its_manifest_says_and_the_same_bytes_again") {
        return;
    }
    let sandbox = sandbox();
    let project = &sandbox.project;
    let steps = ran(
        project,
        &["provision", "-r", "dev", "--out", "made/device.img"],
    );
    assert!(steps.contains(&"provision dev".to_owned()), "{steps:?}");
    let state = project.state();
    let disk = state.join(DISK);
    let copy = project.directory().join("made/device.img");
    assert!(fs::read(&copy).unwrap() == fs::read(&disk).unwrap());
    let found = partitions(&disk);
    let names: Vec<&str> = found.iter().map(|p| p.0.as_str()).collect();
    assert_eq!(names, ["boot-a", "boot-b", "rootfs-a", "rootfs-b", "var"]);
    assert_eq!(found[0].1, 1 << 20);
    assert_eq!(found[0].3["uuid"], "0B6BB5A4-0F27-4E4C-8A6E-3F5C2A9D10A1");
    assert_eq!(found[4].3["attrs"], "GUID:56");
    let checked = ToolCall::new("sfdisk")
        .arg("--verify")
        .arg(&disk)
        .ok()
        .unwrap();
    assert!(
        checked.stdout.contains("No errors detected"),
        "{}",
        checked.stdout
    );
    let metadata = fs::metadata(&disk).unwrap();
    assert!(
        metadata.blocks() * 512 < metadata.len() / 2,
        "what is empty takes no room"
    );

    let runtime = state.join("runtimes/dev");
    let rootfs = runtime.join("avocado-image-rootfs-qemux86-64.erofs-lz4");
    assert!(starts_with_file(&content(&disk, "rootfs-a"), &rootfs));
    let var = runtime.join("avocado-image-var-qemux86-64.btrfs");
    assert!(starts_with_file(&content(&disk, "var"), &var));
    for empty in ["boot-b", "rootfs-b"] {
        assert!(
            content(&disk, empty).iter().all(|byte| *byte == 0),
            "{empty}"
        );
    }
    let boot = sandbox.directory.path().join("boot.img");
    fs::write(&boot, content(&disk, "boot-a")).unwrap();
    let entry = ToolCall::new("mtype")
        .arg("-i")
        .arg(&boot)
        .arg("::/loader/entries/avocado.conf");
    let entry = entry.ok().unwrap().stdout;
    assert!(entry.contains("root=PARTLABEL=rootfs-a"), "{entry}");
    let initramfs = sandbox.directory.path().join("initramfs");
    let copied = ToolCall::new("mcopy")
        .arg("-i")
        .arg(&boot)
        .arg("::/initramfs");
    copied.arg(&initramfs).ok().unwrap();
    let built = runtime.join("avocado-image-initramfs-qemux86-64.cpio.zst");
    assert!(fs::read(initramfs).unwrap() == fs::read(built).unwrap());

    assert_eq!(ran(project, &["provision"]), [""; 0]);
    // The same again from nothing; but for the file system of /var, which no mkfs.btrfs makes twice.
    let before = fs::read(&disk).unwrap();
    fs::remove_dir_all(project.directory().join(".avocado")).unwrap();
    ran(project, &["provision"]);
    let after = fs::read(&disk).unwrap();
    let (start, length) = (found[4].1 as usize, found[4].2 as usize);
    assert_eq!(before.len(), after.len());
    assert!(before[..start] == after[..start]);
    assert!(before[start + length..] == after[start + length..]);
}

/// Lets the project have a stone manifest of its own, in `board/stone.json`: gives what the board's says.
fn with_own_manifest(project: &TestProject) -> String {
    let stone = project.state().join("sdk/x86_64/stone");
    let stated = fs::read_to_string(stone.join("stone-qemux86-64.json")).unwrap();
    let yaml = project.read("avocado.yaml").unwrap();
    let own = "    stone_manifest: board/stone.json\n    var_files:\n";
    project
        .write("avocado.yaml", &yaml.replace("    var_files:\n", own))
        .unwrap();
    for file in ["entry.conf", "loader.conf", "systemd-bootx64.efi"] {
        let to = project.directory().join("board").join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(stone.join(file), to).unwrap();
    }
    stated
}

#[test]
fn what_no_disk_is_made_of_is_told_and_leaves_the_one_before() {
    if skips("what_no_disk_is_made_of_is_told_and_leaves_the_one_before") {
        return;
    }
    let sandbox = sandbox();
    let project = &sandbox.project;
    project.avocado(&["provision"]).ok().unwrap();
    let stated = with_own_manifest(project);
    let disk = project.state().join(DISK);
    let before = fs::metadata(&disk).unwrap();
    let profile = r#""profiles": { "disk": {} }"#;
    let scripted = r#""profiles": { "disk": { "script": "flash.sh" } }"#;
    for (from, to, arguments, words) in [
        (
            r#"{ "name": "rootfs-b""#,
            r#"{ "name": "spare", "image": "rootfs", "size": 1, "size_unit": "mebibytes" },
        { "name": "rootfs-b""#,
            &["provision"][..],
            &["the partition `spare`", "larger `size`"][..],
        ),
        (
            r#""name": "rootfs-b", "size""#,
            r#""name": "rootfs-b", "offset": 2097152, "size""#,
            &["provision"],
            &["partitions[0]", "rootfs-b"],
        ),
        (
            r#""var": "avocado-image"#,
            r#""var": "nothing-avocado-image"#,
            &["provision"],
            &["`nothing-avocado-image-var", "stone_include_paths"],
        ),
        (
            profile,
            scripted,
            &["provision"],
            &["flash.sh", "avocado-provision-qemux86-64"],
        ),
        (
            profile,
            profile,
            &["provision", "--profile", "sd"],
            &["`sd`", "disk"],
        ),
        (
            profile,
            profile,
            &["provision", "--env", "A=b"],
            &["`A`", "avocado-provision-qemux86-64"],
        ),
        (
            r#""out": "avocado"#,
            r#""build_args": { "type": "fwup" }, "out": "avocado"#,
            &["provision"],
            &["`fwup`", "build_args"],
        ),
    ] {
        assert!(stated.contains(from), "{from}");
        project
            .write("board/stone.json", &stated.replace(from, to))
            .unwrap();
        let refused = project.avocado(arguments).run().unwrap();
        assert!(!refused.status.success(), "{from}: {refused}");
        for word in words {
            assert!(refused.stderr.contains(word), "{word}: {refused}");
        }
    }
    let after = fs::metadata(&disk).unwrap();
    assert_eq!((before.ino(), before.mtime()), (after.ino(), after.mtime()));

    project
        .write("board/stone.json", &stated.replace(profile, scripted))
        .unwrap();
    // Listing waits for no build.
    let lock = File::open(project.directory().join(".avocado/state/.lock")).unwrap();
    lock.lock().unwrap();
    let listed = project
        .avocado(&["provision", "--list", "--output", "json"])
        .ok()
        .unwrap();
    drop(lock);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let expected = serde_json::json!([{"name": "disk", "default": true, "script": "flash.sh"}]);
    assert_eq!(listed, expected);
}

/// A program of the target does it where there is one, with what the published tool tells it.
#[test]
fn a_program_of_the_target_is_run_with_the_published_environment() {
    if skips("a_program_of_the_target_is_run_with_the_published_environment") {
        return;
    }
    let sandbox = sandbox();
    let project: &TestProject = &sandbox.project;
    project.avocado(&["sdk", "install"]).ok().unwrap();
    let program: PathBuf = project
        .state()
        .join("sdk/x86_64/usr/bin/avocado-provision-qemux86-64");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let script = "#!/bin/bash\nset -eu\nmkdir -p \"$AVOCADO_PROVISION_OUT\"\n\
                  env | grep -E '^(AVOCADO_PROVISION|AVOCADO_RUNTIME_NAME|SERIAL)' | sort >\"$AVOCADO_PROVISION_OUT/told\"\n\
                  echo \"$1\" >>\"$AVOCADO_PROVISION_OUT/told\"\necho run >>\"$AVOCADO_PROVISION_OUT/runs\"\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = ["provision", "dev", "--env", "SERIAL=1 2", "--out", "made"];
    for runs in ["run\n", "run\nrun\n"] {
        project.avocado(&arguments).ok().unwrap();
        assert_eq!(project.read("made/runs").unwrap(), runs);
    }
    if let Some(device) = LoopDevice::new(sandbox.directory.path(), 1 << 20) {
        let refused = project.avocado(&device.provision()).run().unwrap();
        assert!(!refused.status.success(), "{refused}");
        for word in ["avocado-provision-qemux86-64", "in its own way", "--env"] {
            assert!(refused.stderr.contains(word), "{word}: {refused}");
        }
        assert_eq!(project.read("made/runs").unwrap(), "run\nrun\n");
    }
    let told = project.read("made/told").unwrap();
    for line in [
        "AVOCADO_PROVISION_OUT=/opt/src/made",
        "AVOCADO_PROVISION_PROFILE=disk",
        "AVOCADO_RUNTIME_NAME=dev",
        "SERIAL=1 2",
        "dev",
    ] {
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }
    assert!(
        told.contains("AVOCADO_PROVISION_KERNEL_VERSION=6."),
        "{told}"
    );
}

/// A disk to write to, as large as it is asked for, with something on it.
struct LoopDevice {
    node: String,
    backing: PathBuf,
}

impl LoopDevice {
    /// None where this machine makes none.
    fn new(directory: &Path, size: u64) -> Option<Self> {
        let backing = directory.join(format!("backing-{size}"));
        fs::write(&backing, vec![0xa5; 64 << 10]).unwrap();
        let file = File::options().write(true).open(&backing).unwrap();
        file.set_len(size).unwrap();
        let made = ToolCall::new("losetup").args(["--find", "--show"]);
        let made = made.arg(&backing).run().unwrap();
        made.status.success().then(|| LoopDevice {
            node: made.stdout.trim().to_owned(),
            backing,
        })
    }

    /// The words that write to it, whatever it is.
    fn provision(&self) -> [&str; 5] {
        let device = self.node.as_str();
        [
            "provision",
            "--device",
            device,
            "--allow-fixed-disk",
            "--yes",
        ]
    }

    fn starts_with(&self, bytes: &[u8]) -> bool {
        let mut found = vec![0; bytes.len()];
        let file = File::open(&self.backing).unwrap();
        file.read_exact_at(&mut found, 0).unwrap();
        found == bytes
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        _ = ToolCall::new("losetup")
            .arg("--detach")
            .arg(&self.node)
            .run();
    }
}

#[test]
fn a_disk_is_written_to_a_device_after_asking() {
    let name = "a_disk_is_written_to_a_device_after_asking";
    let tools = ["losetup", "script"].map(TestNeed::Tool);
    if skips(name) || skip_without(name, &tools) {
        return;
    }
    let sandbox = sandbox();
    let project = &sandbox.project;
    let place = sandbox.directory.path();
    let Some(device) = LoopDevice::new(place, 1 << 30) else {
        return avocado_test_support::skip(name, "no loop device can be made");
    };
    let small = LoopDevice::new(place, 1 << 20).unwrap();
    let file = place.join("file");
    fs::write(&file, "mine").unwrap();
    project.avocado(&["sdk", "install"]).ok().unwrap();
    let stated = with_own_manifest(project);
    let stated = stated.replace(
        r#""size": 1, "size_unit": "gibibytes""#,
        r#""size": 400, "size_unit": "mebibytes""#,
    );
    let two = stated.replace(
        r#""storage_devices": {"#,
        r#""storage_devices": { "flash": { "out": "flash.img", "partitions": [] },"#,
    );
    assert_ne!(stated, two);
    let node = device.node.as_str();
    let untouched = [0xa5; 64 << 10];
    for (manifest, arguments, words) in [
        (
            &stated,
            &["provision", "--device", node, "--allow-fixed-disk"][..],
            &["no terminal", "--yes"][..],
        ),
        (
            &stated,
            &["provision", "--device", node, "--yes"],
            &["neither removable", "--allow-fixed-disk"],
        ),
        (
            &stated,
            &["provision", "--device", file.to_str().unwrap(), "--yes"],
            &["no block device", "--out"],
        ),
        (
            &stated,
            &small.provision(),
            &["1048576 bytes", "the image has"],
        ),
        (
            &two,
            &device.provision(),
            &["2 disks (disk, flash)", "--out"],
        ),
    ] {
        project.write("board/stone.json", manifest).unwrap();
        let refused = project.avocado(arguments).run().unwrap();
        assert!(!refused.status.success(), "{arguments:?}: {refused}");
        for word in words {
            assert!(refused.stderr.contains(word), "{word}: {refused}");
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert!(device.starts_with(&untouched));
    assert!(small.starts_with(&untouched));

    project.write("board/stone.json", &stated).unwrap();
    let program = static_binary("avocado").unwrap();
    let command = format!(
        "{} provision --device {node} --allow-fixed-disk",
        program.display()
    );
    let words = [
        "script",
        "--quiet",
        "--return",
        "--command",
        &command,
        "/dev/null",
    ];
    let asked = project.clone().with_program(words);
    for (answer, is_written) in [("n\n", false), ("\n", false), ("y\n", true)] {
        let said = asked.avocado(&[]).input(answer).run().unwrap();
        assert_eq!(said.status.success(), is_written, "{said}");
        assert!(said.stdout.contains(&format!("{node} is: ")), "{said}");
        assert!(said.stdout.contains("1.0 GiB, NOT REMOVABLE"), "{said}");
        assert_ne!(device.starts_with(&untouched), is_written, "{said}");
    }
    let image = fs::read(project.state().join(DISK)).unwrap();
    assert!(device.starts_with(&image));
    // And again without asking, over what is there.
    let steps = ran(project, &device.provision());
    let step = |what: &str| format!("{what} {node}");
    assert_eq!(steps, [step("read back"), step("write to")]);
    assert!(device.starts_with(&image));
}
