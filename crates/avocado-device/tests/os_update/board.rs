//! A board: its partitions are files, its boot loader's record is a real U-Boot environment with both
//! copies, and it is started by this program.
#![allow(unreachable_pub)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use avocado_device::{
    Activation, Device, DeviceConfig, DeviceError, DevicePaths, FailureReason, OsUpdateError,
    PendingUpdate,
};
use avocado_events::Silent;
use avocado_manifest::os_bundle::{BundleChunk, ChunkedArchive, ChunkedArtifact, OsBundleChunks};
use avocado_manifest::{Digest, ImageId, Manifest, OsBundle};
use serde_json::{Value, json};

use crate::common::*;

/// The partitions of a board, which are all on its disk.
pub const LABELS: [&str; 4] = ["boot-a", "boot-b", "rootfs-a", "rootfs-b"];

/// No block device of this machine has such a number.
pub const MAJOR: u32 = 4000;

/// The disk of a board.
pub const DISK: &str = "4000:0";

/// The size of a partition, in bytes.
pub const PARTITION: usize = 64 << 10;

pub struct Board {
    pub dir: tempfile::TempDir,
    pub config: DeviceConfig,
    pub paths: DevicePaths,
    boots: u32,
    started: String,
}

/// Whether the programs for the environment are here.
pub fn has_uboot_tools(test: &str) -> bool {
    let there = Path::new("/usr/bin/fw_setenv").exists();
    if !there {
        avocado_test_support::skip(test, "fw_setenv is not installed (scripts/setup)");
    }
    there
}

impl Board {
    /// A board that runs the build `old` from slot a.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = private_paths(dir.path());
        let at = |name: &str| dir.path().join(name);
        paths.os.device_nodes = at("nodes");
        paths.os.block_devices = at("sys/dev/block");
        paths.os.mounts = at("mountinfo");
        paths.os.partition_uuids = at("uuids");
        paths.os.boot_id = at("boot_id");
        paths.os.kernel_command_line = at("cmdline");
        paths.os.files_are_nodes = true;
        paths.os.uboot_environment = at("fw_env.config");
        paths.os.efi_variables = at("efivars");
        paths.os.device_tree = at("device-tree");
        paths.os.initramfs_build_id = at("initramfs-build-id");
        paths.os.health_required = vec![at("health.d"), at("required.d")];
        paths.os.health_wanted = vec![at("wanted.d")];
        for directory in ["nodes", "sys/dev/block", "uuids", "efivars", "bin", "run"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        fs::write(&paths.os.kernel_command_line, "quiet").unwrap();
        let environment = at("environment");
        fs::write(&environment, vec![0; 0x8000]).unwrap();
        let place = environment.display();
        let config = format!("{place} 0x0 0x4000\n{place} 0x4000 0x4000\n");
        fs::write(at("fw_env.config"), config).unwrap();
        fs::write(at("no-default"), "").unwrap();
        let board = Board {
            config: DeviceConfig::default(),
            boots: 0,
            started: "a".into(),
            paths,
            dir,
        };
        let options = format!(
            "-c {} -f {}",
            board.at("fw_env.config").display(),
            board.at("no-default").display()
        );
        let mut board = board;
        board.paths.tools.fw_printenv = board.program(
            "fw_printenv",
            &format!("exec /usr/bin/fw_printenv {options} \"$@\""),
        );
        board.paths.tools.fw_setenv = board.program(
            "fw_setenv",
            &format!("exec /usr/bin/fw_setenv {options} \"$@\""),
        );
        fs::create_dir_all(&board.paths.base).unwrap();
        board.put_mounts();
        board.put_block_device("own", DISK, None);
        for (number, label) in LABELS.into_iter().enumerate() {
            fs::write(board.partition(label), vec![0; PARTITION]).unwrap();
            board.put_partition("own", label, &format!("{MAJOR}:{}", number + 1), label);
        }
        board.put_os("a", "old");
        board.starts("a");
        board
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A small program.
    pub fn program(&self, name: &str, body: &str) -> PathBuf {
        let path = self.at("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A health check.
    pub fn check(&self, path: &str, body: &str) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Lets a service manager run, whose answers are these; it writes down what it is asked for.
    pub fn has_systemd(&mut self, answers: &str) {
        let _ = fs::create_dir(&self.paths.systemd);
        let log = self.at("systemctl.log");
        let body = format!(
            "echo \"$@\" >>{}\ncase \"$*\" in {answers} esac",
            log.display()
        );
        self.paths.tools.systemctl = self.program("systemctl", &body);
    }

    /// Lets systemd take what matches a pattern of the shell for a time, and a day of the past for one that does
    /// not come again.
    pub fn knows_times(&mut self, pattern: &str) {
        let body = format!(
            "case $4 in 2020-*) echo '    Next elapse: never' ;; {pattern}) ;; \
             *) echo \"Failed to parse calendar specification '$4'\" >&2; exit 1 ;; esac"
        );
        self.paths.tools.systemd_analyze = self.program("systemd-analyze", &body);
    }

    /// What the service manager was asked to do since, by lines.
    pub fn asked(&self) -> String {
        let log = self.at("systemctl.log");
        let said = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        let others = ["is-enabled", "is-system-running", "daemon-reload"];
        let told = said
            .lines()
            .filter(|l| !others.iter().any(|q| l.starts_with(q)));
        told.collect::<Vec<_>>().join(", ")
    }

    pub fn device(&self) -> Device {
        Device::with_paths(self.config.clone(), self.paths.clone())
    }

    pub fn partition(&self, name: &str) -> PathBuf {
        self.paths.os.device_nodes.join(name)
    }

    /// Lets the kernel tell of what is mounted here now, and that the root is on the disk of the board, in
    /// the slot that was started.
    pub fn put_mounts(&self) {
        let mut mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let label = format!("rootfs-{}", self.started);
        let number = 1 + LABELS.into_iter().position(|own| own == label).unwrap();
        mounts += &format!("99999 1 {MAJOR}:{number} / / ro - squashfs /dev/root ro\n");
        fs::write(&self.paths.os.mounts, mounts).unwrap();
    }

    /// Lets the kernel tell of a block device. `at` is its place below those of its disk.
    pub fn put_block_device(&self, at: &str, number: &str, partition: Option<(&str, &str)>) {
        let directory = self.at("sys/devices").join(at);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("dev"), format!("{number}\n")).unwrap();
        let name = at.rsplit('/').next().unwrap();
        let mut event = format!("DEVNAME={name}\nDEVTYPE=disk\n");
        if let Some((node, label)) = partition {
            event = format!("DEVNAME={node}\nDEVTYPE=partition\nPARTNAME={label}\n");
            // Partitions have the number of their device here.
            let minor = number.split(':').nth(1).unwrap();
            fs::write(directory.join("partition"), minor).unwrap();
        }
        fs::write(directory.join("uevent"), event).unwrap();
        let link = self.paths.os.block_devices.join(number);
        std::os::unix::fs::symlink(&directory, link).unwrap();
    }

    /// Lets the kernel tell of a partition of a disk.
    pub fn put_partition(&self, disk: &str, node: &str, number: &str, label: &str) {
        let name = node.replace('/', "!");
        self.put_block_device(&format!("{disk}/{name}"), number, Some((node, label)));
    }

    /// Takes the labels off all partitions of the disk.
    pub fn take_labels(&self) {
        for label in LABELS {
            let event = self.at("sys/devices/own").join(label).join("uevent");
            fs::write(event, format!("DEVNAME={label}\nDEVTYPE=partition\n")).unwrap();
        }
    }

    /// Takes a partition off the disk.
    pub fn take_partition(&self, label: &str) {
        fs::remove_file(self.partition(label)).unwrap();
        let at = LABELS.into_iter().position(|own| own == label).unwrap();
        let link = self
            .paths
            .os
            .block_devices
            .join(format!("{MAJOR}:{}", at + 1));
        fs::remove_file(link).unwrap();
    }

    fn put_os(&self, slot: &str, build: &str) {
        let path = self.partition(&format!("rootfs-{slot}"));
        fs::write(path, rootfs(build)).unwrap();
    }

    /// The board is started from a slot.
    pub fn starts(&mut self, slot: &str) {
        self.boots += 1;
        self.started = slot.to_owned();
        self.put_mounts();
        fs::write(&self.paths.os.boot_id, format!("boot {}\n", self.boots)).unwrap();
        let os = fs::read(self.partition(&format!("rootfs-{slot}"))).unwrap();
        let text: Vec<u8> = os.into_iter().take_while(|byte| *byte != 0).collect();
        fs::write(&self.paths.os_release[0], text).unwrap();
        let boot = fs::read(self.partition(&format!("boot-{slot}"))).unwrap();
        let id: Vec<u8> = boot.into_iter().take_while(|byte| *byte != 0).collect();
        fs::write(&self.paths.os.initramfs_build_id, id).unwrap();
        fs::write(
            &self.paths.os.kernel_command_line,
            format!("quiet rauc.slot={slot}"),
        )
        .unwrap();
    }

    /// Sets variables, as the boot loader's first environment has them.
    pub fn set(&self, variables: &[(&str, &str)]) {
        let script = self.at("script");
        let lines = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"));
        fs::write(&script, lines.collect::<String>()).unwrap();
        let status = std::process::Command::new(&self.paths.tools.fw_setenv)
            .arg("-s")
            .arg(&script)
            .status();
        assert!(status.unwrap().success());
    }

    pub fn get(&self, name: &str) -> String {
        let output = std::process::Command::new(&self.paths.tools.fw_printenv)
            .args(["-n", name])
            .output();
        String::from_utf8(output.unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned()
    }

    /// A runtime that comes with an OS, staged.
    pub fn add(&self, version: &str, bundle: &TestBundle) -> Manifest {
        let archive = bundle.archive();
        let digest = Digest::of(&archive);
        put_image(&self.paths.base, &archive);
        let manifest = bundle.runtime(version, digest, None);
        let file = manifest_file(self.dir.path(), &manifest);
        self.device().add_from_manifest(&file, &Silent).unwrap();
        manifest
    }

    /// Activates a runtime whose OS has to be written.
    pub fn writes(&self, manifest: &Manifest) -> PendingUpdate {
        match self
            .device()
            .activate(manifest.id.as_str(), &Silent)
            .unwrap()
        {
            Activation::RebootRequired { pending, .. } => *pending,
            other => panic!("{other:?}"),
        }
    }

    /// Activates a runtime whose OS cannot be written; why.
    pub fn refuses(&self, manifest: &Manifest) -> String {
        let error = self
            .device()
            .activate(manifest.id.as_str(), &Silent)
            .unwrap_err();
        let DeviceError::Update { source, .. } = &error else {
            panic!("{error:?}");
        };
        let FailureReason::OtherOs { source, .. } = &**source else {
            panic!("{source:?}");
        };
        avocado_events::chain(source)
    }

    pub fn refuses_before_writing(&self, manifest: &Manifest) -> Vec<String> {
        let before = tree(self.dir.path());
        let error = self
            .device()
            .activate(manifest.id.as_str(), &Silent)
            .unwrap_err();
        assert_eq!(tree(self.dir.path()), before, "{error}");
        let DeviceError::Update { source, .. } = error else {
            panic!("{error:?}");
        };
        let FailureReason::OtherOs { source, .. } = *source else {
            panic!("{source:?}");
        };
        match *source {
            FailureReason::OsUpdate(error) => match *error {
                OsUpdateError::Refused(problems) => problems,
                other => vec![avocado_events::chain(&other)],
            },
            other => panic!("{other:?}"),
        }
    }

    /// The store, but for what is remembered of images.
    pub fn store(&self) -> Vec<String> {
        let mut all = tree(&self.paths.base);
        all.retain(|file| !file.contains(".verified.json"));
        all
    }

    pub fn active(&self) -> Option<String> {
        let entries = self.device().list().unwrap();
        let active = entries.into_iter().find(|entry| entry.active);
        active.map(|entry| entry.manifest.runtime.version.clone())
    }

    pub fn waits(&self) -> bool {
        self.paths.base.join("pending-update.json").exists()
    }

    pub fn build_in(&self, partition: &str) -> String {
        let bytes = fs::read(self.partition(partition)).unwrap();
        let text: Vec<u8> = bytes.into_iter().take_while(|byte| *byte != 0).collect();
        String::from_utf8(text).unwrap()
    }
}

/// A root file system that says which build it is, filled up with noise.
pub fn rootfs(build: &str) -> Vec<u8> {
    let mut bytes = format!("AVOCADO_OS_BUILD_ID={build}\n\0").into_bytes();
    let mut noise = 7_u32;
    while bytes.len() < PARTITION / 2 {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.push(noise.to_be_bytes()[0]);
    }
    bytes
}

/// What a bundle is made of.
#[derive(Clone)]
pub struct TestBundle {
    pub build: String,
    pub description: Value,
    pub files: Vec<(String, Vec<u8>)>,
}

impl TestBundle {
    pub fn new(build: &str) -> Self {
        let boot = format!("init-{build}\0the kernel").into_bytes();
        let root = rootfs(build);
        let description = json!({
            "format_version": 1, "platform": "testboard",
            "architecture": std::env::consts::ARCH,
            "os_build_id": build, "initramfs_build_id": format!("init-{build}"),
            "update": {
                "strategy": "uboot-ab",
                "slot_detection": {"type": "uboot-env", "var": "avocado_boot_slot"},
                "artifacts": [
                    {"name": "boot", "file": "images/boot.img", "sha256": Digest::of(&boot),
                     "size": boot.len(),
                     "slot_targets": {"a": {"partition": "boot-a"}, "b": {"partition": "boot-b"}}},
                    {"name": "rootfs", "file": "images/rootfs.img", "sha256": Digest::of(&root),
                     "slot_targets": {"a": {"partition": "rootfs-a"}, "b": {"partition": "rootfs-b"}}},
                ],
                "activate": [
                    {"type": "uboot-env", "set": {"avocado_boot_slot": "{inactive_slot}"}},
                    {"type": "uboot-env", "set": {"avocado_platform": "{platform}/{architecture}"}},
                ],
                "rollback": [{"type": "uboot-env", "set": {"avocado_boot_slot": "{previous_slot}"}}],
            },
            "verify": {"type": "os-release", "field": "AVOCADO_OS_BUILD_ID", "expected": build},
            "verify_initramfs": {"type": "os-release", "field": "AVOCADO_OS_BUILD_ID",
                                 "expected": format!("init-{build}")},
        });
        TestBundle {
            build: build.to_owned(),
            description,
            files: vec![
                ("images/boot.img".into(), boot),
                ("images/rootfs.img".into(), root),
            ],
        }
    }

    /// A runtime that comes with it, as an archive of this digest, and the index of its chunks of that.
    pub fn runtime(&self, version: &str, digest: Digest, chunks: Option<Digest>) -> Manifest {
        let mut manifest = runtime(version, "2026-01-01T00:00:00Z", Vec::new());
        manifest.os_bundle = Some(OsBundle {
            image_id: ImageId::from_digest(digest),
            sha256: Some(digest),
            os_build_id: Some(self.build.clone()),
            initramfs_build_id: Some(format!("init-{}", self.build)),
            chunks_sha256: chunks,
        });
        manifest.id = manifest.content_id().unwrap();
        manifest
    }

    /// The same with another value at a place of the description.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.description.pointer_mut(parent).unwrap()[key] = value;
        self
    }

    /// The archive in frames, and the index of its chunks, each of which has this many bytes of an artifact.
    pub fn chunked(&self, chunk_bytes: usize) -> (Vec<u8>, OsBundleChunks) {
        let mut archive = Vec::new();
        let mut frame = |bytes: &[u8]| {
            let frame = zstd::encode_all(bytes, 3).unwrap();
            let offset = archive.len() as u64;
            archive.extend_from_slice(&frame);
            BundleChunk {
                offset,
                length: frame.len() as u64,
                sha256: Digest::of(&frame),
                content_sha256: Digest::of(bytes),
            }
        };
        let plain = self.plain();
        let mut rest = plain.as_slice();
        let mut artifacts = Vec::new();
        for (name, bytes) in &self.files {
            let at = rest.windows(bytes.len()).position(|w| w == bytes).unwrap();
            frame(&rest[..at]);
            artifacts.push(ChunkedArtifact {
                file: name.strip_prefix("images/").unwrap().parse().unwrap(),
                size: bytes.len() as u64,
                chunks: bytes.chunks(chunk_bytes).map(&mut frame).collect(),
            });
            rest = &rest[at + bytes.len()..];
        }
        frame(rest);
        let bundle = ChunkedArchive {
            length: archive.len() as u64,
            sha256: Digest::of(&archive),
        };
        let mut chunks = OsBundleChunks::new(bundle, self.description.to_string(), artifacts);
        chunks.chunk_bytes = chunk_bytes as u64;
        (archive, chunks)
    }

    pub fn archive(&self) -> Vec<u8> {
        zstd::encode_all(self.plain().as_slice(), 3).unwrap()
    }

    fn plain(&self) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, bytes).unwrap();
        };
        add("bundle.json", self.description.to_string().as_bytes());
        for (name, bytes) in &self.files {
            add(name, bytes);
        }
        archive.into_inner().unwrap()
    }
}
