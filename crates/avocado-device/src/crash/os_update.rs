//! Every state in which a crash can leave the slots of a device, its boot loader's record and its store.
//!
//! The partitions and the disk with the table are files below the recorded directory. After each
//! step of an update the device is started from what the table says, and what it starts has to be the old or
//! the new system, whole; then it does what it does at a boot.

use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use avocado_events::{Cancel, Silent};
use avocado_fs::crash::{Disk, Op, Recorder};
use avocado_manifest::os_bundle::{BundleChunk, ChunkedArchive, ChunkedArtifact, OsBundleChunks};
use avocado_manifest::{Digest, ImageId, Manifest, OsBundle};
use avocado_tuf::testing::{image_name, runtime};
use serde_json::json;

use super::scenario::{copy, memory, random};
use crate::activation::Activation;
use crate::config::DeviceConfig;
use crate::context::DeviceContext;
use crate::device::Device;
use crate::os_update::chunked_bundle::ChunkedBundle;
use crate::os_update::stream::OsStream;
use crate::paths::DevicePaths;
use crate::stage::RuntimeSource;

/// The size of a root file system, in bytes: several sectors.
const SIZE: usize = 2048;
const DISK: usize = 32 << 10;

/// What a boot starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    A,
    B,
}

/// A board whose slot is chosen by the table of its disk. All of it that lasts is in one directory.
struct CrashBoard {
    work: tempfile::TempDir,
    old: Manifest,
    new: Manifest,
    /// The chunks of the new one's OS, where it is written while it comes and the pool does not have it.
    streams: Option<Vec<u8>>,
    /// Whether the system has something that asks for its health, and what that comes to.
    health: Cell<Option<bool>>,
    boots: Cell<u32>,
    looked: Cell<u32>,
}

fn rootfs(build: &str) -> Vec<u8> {
    let mut bytes = format!("AVOCADO_OS_BUILD_ID={build}\n").into_bytes();
    bytes.resize(SIZE, b'#');
    bytes
}

fn entry(start: u32, sectors: u32, first: bool) -> Vec<u8> {
    let mut entry = vec![
        if first { 0x80 } else { 0 },
        0xfe,
        0xff,
        0xff,
        0x83,
        0xfe,
        0xff,
        0xff,
    ];
    entry.extend(start.to_le_bytes());
    entry.extend(sectors.to_le_bytes());
    entry
}

impl CrashBoard {
    fn new() -> Self {
        let work = memory();
        let at = |name: &str| work.path().join(name);
        let base = at("start");
        let bundle = |build: &str| bundle(build, &at("disk-link"));
        let (old_bundle, new_bundle) = (bundle("old"), bundle("new"));
        let board = CrashBoard {
            old: manifest("1", "old", &old_bundle, None),
            new: manifest("2", "new", &new_bundle, Some(&chunks("new", &new_bundle))),
            streams: None,
            health: Cell::new(None),
            boots: Cell::new(0),
            looked: Cell::new(0),
            work,
        };
        fs::create_dir_all(base.join("labels")).unwrap();
        fs::create_dir_all(base.join("images")).unwrap();
        fs::write(base.join("labels/rootfs-a"), rootfs("old")).unwrap();
        fs::write(base.join("labels/rootfs-b"), vec![0; 2 * SIZE]).unwrap();
        let mut disk = vec![0; DISK];
        disk[446..462].copy_from_slice(&entry(8, 8, true));
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(base.join("disk"), disk).unwrap();
        let disk = board.at("sys/disk");
        for (number, label) in ["rootfs-a", "rootfs-b"].into_iter().enumerate() {
            // What the kernel tells of a partition. No device of this machine has such a number.
            let partition = disk.join(label);
            fs::create_dir_all(&partition).unwrap();
            fs::write(partition.join("partition"), "1").unwrap();
            let event = format!("DEVNAME={label}\nPARTNAME={label}\n");
            fs::write(partition.join("uevent"), event).unwrap();
            fs::create_dir_all(board.at("sys/block")).unwrap();
            symlink(
                &partition,
                board.at("sys/block").join(format!("4000:{number}")),
            )
            .unwrap();
        }
        fs::write(disk.join("dev"), "4000:2").unwrap();
        board.boot(&base, None);
        for (manifest, bytes) in [(&board.old, &old_bundle), (&board.new, &new_bundle)] {
            fs::write(base.join("images").join(image_name(bytes)), bytes).unwrap();
            let file = board.at("manifest.json");
            fs::write(&file, manifest.to_json().unwrap()).unwrap();
            let source = RuntimeSource::Manifest(&file);
            let cancel = Cancel::new();
            board.device(&base).add(source, &cancel, &Silent).unwrap();
        }
        board
            .device(&base)
            .activate(board.old.id.as_str(), &Silent)
            .unwrap();
        board
    }

    /// The same, with the new OS in no pool.
    fn streaming() -> Self {
        let board = CrashBoard::new();
        let chunks = chunks("new", &bundle("new", &board.at("disk-link")));
        let named = board.new.os_bundle.as_ref().unwrap();
        let images = board.at("start/images");
        fs::remove_file(images.join(named.image_id.file_name())).unwrap();
        let index = images.join(OsBundleChunks::file_name(&named.image_id));
        fs::write(index, &chunks).unwrap();
        CrashBoard {
            streams: Some(chunks),
            ..board
        }
    }

    /// Writes the new OS while it comes, if it comes so.
    fn stream(&self, device: &Device) {
        if self.streams.is_none() {
            return;
        }
        let named = self.new.os_bundle.as_ref().unwrap();
        let context = DeviceContext::new(DeviceConfig::default(), device.paths().clone());
        let index = OsBundleChunks::file_name(&named.image_id);
        let index = context.base().join("images").join(index);
        let bundle = ChunkedBundle::read(&index, named).unwrap();
        let archive = self::bundle("new", &self.at("disk-link"));
        let mut parts = |offset: u64, buffer: &mut [u8]| {
            let begin = offset as usize;
            buffer.copy_from_slice(&archive[begin..begin + buffer.len()]);
            Ok(())
        };
        let cancel = Cancel::new();
        let stream = OsStream::new(&context, &bundle, &mut parts, &cancel, &Silent);
        stream.write(&self.new).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn device(&self, base: &Path) -> Device {
        let link = self.at("disk-link");
        let _ = fs::remove_file(&link);
        symlink(base.join("disk"), &link).unwrap();
        let mut paths = DevicePaths::new(base);
        paths.run = self.at("run");
        paths.extensions = self.at("run-extensions");
        paths.confexts = self.at("run-confexts");
        paths.systemd = self.at("no-systemd");
        if let Some(well) = self.health.get() {
            paths.systemd = self.work.path().to_owned();
            paths.tools.systemctl = "true".into();
            // A program without arguments that succeeds, or fails.
            let checks = self.at("checks");
            let _ = fs::remove_dir_all(&checks);
            fs::create_dir(&checks).unwrap();
            let program = if well {
                "/usr/bin/true"
            } else {
                "/usr/bin/false"
            };
            symlink(program, checks.join("well")).unwrap();
            paths.os.health_required = vec![checks];
        }
        paths.initrd_release = self.at("no-initrd");
        paths.os_release = vec![self.at("os-release")];
        paths.os.device_nodes = base.join("labels");
        paths.os.files_are_nodes = true;
        paths.os.block_devices = self.at("sys/block");
        paths.os.boot_id = self.at("boot_id");
        paths.os.device_tree = self.at("device-tree");
        paths.os.initramfs_build_id = self.at("no-initramfs-build-id");
        Device::with_paths(DeviceConfig::default(), paths)
    }

    /// Starts what the table says, which is whole.
    fn boot(&self, base: &Path, says: Option<&str>) -> Slot {
        let disk = fs::read(base.join("disk")).unwrap();
        let slot = match disk[446 + 8] {
            8 => Slot::A,
            16 => Slot::B,
            other => panic!("the table is torn: {other}"),
        };
        let (name, number) = match slot {
            Slot::A => ("rootfs-a", 2_u8),
            Slot::B => ("rootfs-b", 3),
        };
        let os = fs::read(base.join("labels").join(name)).unwrap();
        let os = &os[..SIZE];
        assert!(
            os == rootfs("old") || os == rootfs("new"),
            "a part of a system is started"
        );
        self.boots.set(self.boots.get() + 1);
        fs::write(self.at("boot_id"), self.boots.get().to_string()).unwrap();
        let said = says.map_or(os.to_vec(), rootfs);
        fs::write(self.at("os-release"), said).unwrap();
        let place = self.at("device-tree/chosen/bootloader");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("partition"), [0, 0, 0, number]).unwrap();
        slot
    }

    /// Does `work` on a copy of the directory at `start` and calls `look` with every state that a crash can leave of
    /// it, each in a directory of its own. Returns what was done.
    fn each_crash(
        &self,
        start: &Path,
        work: &dyn Fn(&Device),
        keep: &dyn Fn(&Op) -> bool,
        look: &dyn Fn(&Path),
    ) -> PathBuf {
        let whole = self.at("whole");
        let _ = fs::remove_dir_all(&whole);
        copy(start, &whole);
        let mut left = Disk::of(&whole);
        let device = self.device(&whole);
        let link = self.at("disk-link");
        let recorder = Recorder::new(&whole).alias(&link, "disk");
        let ((), mut ops) = recorder.run(|| work(&device));
        assert!(!ops.is_empty());
        ops.retain(keep);
        let mut random = random(0x9e37_79b9_7f4a_7c15);
        for done in 0..=ops.len() {
            left.crash(40, &mut random, |state| {
                let base = self.at("state");
                let _ = fs::remove_dir_all(&base);
                fs::create_dir(&base).unwrap();
                state.restore(&base);
                self.looked.set(self.looked.get() + 1);
                look(&base);
            });
            if let Some(op) = ops.get(done) {
                left.apply(op);
            }
        }
        whole
    }

    fn active(&self, base: &Path) -> String {
        let entry = self.device(base).inspect(None).unwrap();
        entry.manifest.runtime.version.clone()
    }

    /// What a device does at a boot from this state, and that it can be updated from there.
    fn goes_on(&self, base: &Path, says: Option<&str>) {
        let slot = self.boot(base, says.filter(|_| self.is_on(base, Slot::B)));
        let device = self.device(base);
        device.merge(&Silent).unwrap();
        let well = self.health.get();
        if well.is_some() {
            let _ = device.end_trial(&Silent);
        }
        let marker = base.join("pending-update.json");
        assert!(!marker.exists(), "the update waits for ever");
        let good = slot == Slot::B && says.is_none() && well != Some(false);
        let expected = if good { "2" } else { "1" };
        assert_eq!(self.active(base), expected);
        if !self.looked.get().is_multiple_of(7) || good {
            return;
        }
        // What failed was told to go back: it is started from there. And all is well then.
        self.health.set(well.map(|_| true));
        assert_eq!(self.boot(base, None), Slot::A);
        self.device(base).merge(&Silent).unwrap();
        self.stream(&self.device(base));
        let again = self
            .device(base)
            .activate(self.new.id.as_str(), &Silent)
            .unwrap();
        assert!(matches!(again, Activation::RebootRequired { .. }));
        assert_eq!(self.boot(base, None), Slot::B);
        let device = self.device(base);
        device.merge(&Silent).unwrap();
        device.end_trial(&Silent).unwrap();
        assert_eq!(self.active(base), "2");
        self.health.set(well);
    }

    fn is_on(&self, base: &Path, slot: Slot) -> bool {
        let disk = fs::read(base.join("disk")).unwrap();
        (disk[446 + 8] == 16) == (slot == Slot::B)
    }
}

fn bundle(build: &str, disk: &Path) -> Vec<u8> {
    let root = rootfs(build);
    let description = json!({
        "format_version": 1, "platform": "board", "architecture": std::env::consts::ARCH,
        "os_build_id": build,
        "update": {
            "strategy": "mbr-ab",
            "slot_detection": {"type": "rpi-tryboot", "boot_partitions": {"a": 2, "b": 3}},
            "artifacts": [{"name": "rootfs", "file": "images/rootfs", "sha256": Digest::of(&root),
                "slot_targets": {"a": {"partition": "rootfs-a"}, "b": {"partition": "rootfs-b"}}}],
            "activate": [{"type": "mbr-switch", "devpath": disk,
                          "slot_layouts": {"a": ["boot-a"], "b": ["boot-b"]}}],
        },
        "layout": {"partitions": [{"name": "boot-a", "offset": 4096, "size": 4096},
                                  {"name": "boot-b", "offset": 8192, "size": 4096}]},
    });
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("bundle.json", description.to_string().as_bytes()),
        ("images/rootfs", &root),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).unwrap();
    }
    let plain = archive.into_inner().unwrap();
    let at = plain.windows(SIZE).position(|w| w == root).unwrap();
    let parts = [&plain[..at], &root, &plain[at + SIZE..]];
    parts
        .map(|part| zstd::encode_all(part, 3).unwrap())
        .concat()
}

/// The index of the chunks of such a bundle: one, which is what is behind the first frame.
fn chunks(build: &str, archive: &[u8]) -> Vec<u8> {
    let root = rootfs(build);
    let frame = zstd::encode_all(root.as_slice(), 3).unwrap();
    let offset = archive.windows(frame.len()).position(|w| w == frame);
    let chunk = BundleChunk {
        offset: offset.unwrap() as u64,
        length: frame.len() as u64,
        sha256: Digest::of(&frame),
        content_sha256: Digest::of(&root),
    };
    let artifact = ChunkedArtifact {
        file: "rootfs".parse().unwrap(),
        size: SIZE as u64,
        chunks: vec![chunk],
    };
    let bundle = ChunkedArchive {
        length: archive.len() as u64,
        sha256: Digest::of(archive),
    };
    let mut plain = Vec::new();
    let mut unpacked = zstd::Decoder::new(archive).unwrap();
    unpacked.read_to_end(&mut plain).unwrap();
    let mut tar = tar::Archive::new(plain.as_slice());
    let mut description = String::new();
    let mut first = tar.entries().unwrap().next().unwrap().unwrap();
    first.read_to_string(&mut description).unwrap();
    let chunks = OsBundleChunks::new(bundle, description, vec![artifact]);
    chunks.to_json().unwrap()
}

fn manifest(version: &str, build: &str, bundle: &[u8], chunks: Option<&[u8]>) -> Manifest {
    let mut manifest = runtime("dev", version, "2026-01-01T00:00:00Z", Vec::new());
    let digest = Digest::of(bundle);
    manifest.os_bundle = Some(OsBundle {
        image_id: ImageId::from_digest(digest),
        sha256: Some(digest),
        os_build_id: Some(build.to_owned()),
        initramfs_build_id: None,
        chunks_sha256: chunks.map(Digest::of),
    });
    manifest.id = manifest.content_id().unwrap();
    manifest
}

#[test]
fn a_crash_in_an_update_of_the_os_leaves_the_old_or_the_new_system() {
    let board = CrashBoard::new();
    let start = board.at("start");
    let all = |_: &Op| true;
    let write = |device: &Device| {
        let written = device.activate(board.new.id.as_str(), &Silent).unwrap();
        assert!(matches!(written, Activation::RebootRequired { .. }));
    };
    let merge = |device: &Device| drop(device.merge(&Silent));
    board.boot(&start, None);
    let written = board.each_crash(&start, &write, &all, &|base| board.goes_on(base, None));
    let armed = board.at("armed");
    fs::rename(&written, &armed).unwrap();

    // It is started, and proves itself.
    assert_eq!(board.boot(&armed, None), Slot::B);
    board.each_crash(&armed, &merge, &all, &|base| {
        assert_eq!(board.boot(base, None), Slot::B);
        board.goes_on(base, None);
    });

    // It is started, and is not what was written.
    assert_eq!(board.boot(&armed, Some("third")), Slot::B);
    let back = board.each_crash(&armed, &merge, &all, &|base| {
        board.goes_on(base, Some("third"))
    });
    assert_eq!(board.active(&back), "1");
    assert!(back.join("failed-update.json").exists());
    assert!(board.looked.get() > 100, "{} states", board.looked.get());

    // It is started, its health decides, and the power goes at the merge or when that is known.
    for well in [true, false] {
        board.health.set(Some(well));
        assert_eq!(board.boot(&armed, None), Slot::B);
        let tried = board.each_crash(&armed, &merge, &all, &|base| board.goes_on(base, None));
        let trial = board.at("trial");
        let _ = fs::remove_dir_all(&trial);
        fs::rename(&tried, &trial).unwrap();
        // One that went back was started from there in between.
        board.boot(&trial, None);
        board.device(&trial).merge(&Silent).unwrap();
        let end = |device: &Device| drop(device.end_trial(&Silent));
        let ended = board.each_crash(&trial, &end, &all, &|base| board.goes_on(base, None));
        assert_eq!(board.active(&ended), if well { "2" } else { "1" });
    }
    board.health.set(None);

    // The test sees what it should see.
    let is = |op: &Op, name: &str| matches!(op, Op::Sync(path) if path.ends_with(name));
    let needs = |what: &str, start: &Path, work: &dyn Fn(&Device), drops: &dyn Fn(&Op) -> bool| {
        let keep = |op: &Op| !drops(op);
        let look = || drop(board.each_crash(start, work, &keep, &|base| board.goes_on(base, None)));
        assert!(
            catch_unwind(AssertUnwindSafe(look)).is_err(),
            "it goes without {what}"
        );
    };
    board.boot(&start, None);
    needs("a sync of the slot", &start, &write, &|op| {
        is(op, "labels/rootfs-b")
    });
    board.boot(&start, None);
    needs("a lasting marker", &start, &write, &|op| {
        *op == Op::SyncDirectory("".into())
    });
    board.boot(&start, None);
    needs("a whole marker", &start, &write, &|op| {
        is(op, ".pending-update.json.tmp")
    });
}

#[test]
fn a_crash_while_an_os_is_written_as_it_comes_leaves_the_old_or_the_new_system() {
    let board = CrashBoard::streaming();
    let start = board.at("start");
    let all = |_: &Op| true;
    let write = |device: &Device| {
        board.stream(device);
        let written = device.activate(board.new.id.as_str(), &Silent).unwrap();
        assert!(matches!(written, Activation::RebootRequired { .. }));
    };
    board.boot(&start, None);
    board.each_crash(&start, &write, &all, &|base| board.goes_on(base, None));
    assert!(board.looked.get() > 50, "{} states", board.looked.get());

    // The test sees what it should see.
    let unsynced = |op: &Op| !matches!(op, Op::Sync(path) if path.ends_with("labels/rootfs-b"));
    board.boot(&start, None);
    let look =
        || drop(board.each_crash(&start, &write, &unsynced, &|base| board.goes_on(base, None)));
    let seen = catch_unwind(AssertUnwindSafe(look)).is_err();
    assert!(seen, "it goes without a sync of the slot");
}
