//! Real block devices: a partition that is mounted is never written, however it is named.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::board::{self, Board, TestBundle, has_uboot_tools};
use crate::namespace::with_own_mounts;

const MIB: usize = 1 << 20;

fn run(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}

/// A file as a disk, until it is dropped.
struct LoopDisk {
    device: PathBuf,
    mounted: Option<PathBuf>,
}

impl LoopDisk {
    fn new(file: &Path) -> Option<Self> {
        let device = run("losetup", &["--find", "--show", file.to_str()?])?;
        let disk = LoopDisk {
            device: device.clone().into(),
            mounted: None,
        };
        // Not every kernel reads such a table by itself.
        run("partx", &["--add", &device])?;
        Some(disk)
    }

    /// A node for its first partition, which nothing else makes here.
    fn first_partition(&self, directory: &Path) -> Option<PathBuf> {
        let name = self.device.file_name()?.to_str()?;
        let number = fs::read_to_string(format!("/sys/class/block/{name}p1/dev")).ok()?;
        let (major, minor) = number.trim().split_once(':')?;
        let node = directory.join("p1");
        run("mknod", &[node.to_str()?, "b", major, minor])?;
        Some(node)
    }

    /// Lets the kernel tell a board of its first partition as it is, but for a label.
    fn label_first_partition(&self, board: &Board, node: &Path, label: &str) {
        let rdev = fs::metadata(node).unwrap().rdev();
        let number = format!("{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev));
        std::os::unix::fs::symlink(node, board.partition(label)).unwrap();
        board.put_partition("own", label, &number, label);
    }

    fn mount(&mut self, node: &Path, at: &Path) -> Option<()> {
        fs::create_dir(at).ok()?;
        // A file system that may be written is written by the kernel at times, as no test expects.
        run("mount", &["-o", "ro", node.to_str()?, at.to_str()?])?;
        self.mounted = Some(at.to_owned());
        Some(())
    }

    fn unmount(&mut self) {
        if let Some(at) = self.mounted.take() {
            run("umount", &[at.to_str().unwrap()]).unwrap();
        }
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        self.unmount();
        let _ = run("partx", &["--delete", self.device.to_str().unwrap()]);
        let _ = run("losetup", &["--detach", self.device.to_str().unwrap()]);
    }
}

/// A table with one partition from 1 MiB on.
fn table(sectors: u32) -> Vec<u8> {
    let mut sector = vec![0; 512];
    let entry = [&[0, 0, 0, 0, 0x83, 0, 0, 0], &2048_u32.to_le_bytes()[..]].concat();
    sector[446..458].copy_from_slice(&entry);
    sector[458..462].copy_from_slice(&sectors.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[test]
fn a_mounted_partition_is_never_written() {
    const NAME: &str = "disks::a_mounted_partition_is_never_written";
    // In a namespace that is copied while others' tests begin, it would stay mounted.
    with_own_mounts(NAME, &["mkfs.ext4"], || mounted_partition(NAME));
}

fn mounted_partition(name: &str) {
    if !has_uboot_tools(name) {
        return;
    }
    let board = Board::new();
    board.set(&[("avocado_boot_slot", "a")]);
    let file = board.at("disk.img");
    let mut bytes = table(8 * 2048);
    bytes.resize(12 * MIB, 0);
    fs::write(&file, bytes).unwrap();
    let disk = LoopDisk::new(&file);
    let node = disk
        .as_ref()
        .and_then(|disk| disk.first_partition(board.dir.path()));
    let (Some(mut disk), Some(node)) = (disk, node) else {
        avocado_test_support::skip(name, "there are no loop devices with partitions here");
        return;
    };
    let made = run("mkfs.ext4", &["-q", "-F", node.to_str().unwrap()]);
    made.expect("mkfs.ext4 is there (scripts/setup)");
    disk.mount(&node, &board.at("mounted")).unwrap();
    board.put_mounts();
    let layout = |offset: usize| {
        json!({"device": disk.device, "partitions": [
            {"name": "rootfs-b", "offset": offset, "size": MIB}]})
    };
    let bundle = |offset| TestBundle::new("new").with("/layout", layout(offset));
    let inside = board.add("1", &bundle(4 * MIB));
    let beside = board.add("2", &bundle(10 * MIB));
    let by_label = board.add("3", &TestBundle::new("new"));
    board.take_partition("rootfs-b");
    // What the kernel says of the disk itself.
    let number = fs::metadata(&disk.device).unwrap().rdev();
    let number = format!(
        "{}:{}",
        rustix::fs::major(number),
        rustix::fs::minor(number)
    );
    let real = Path::new("/sys/dev/block").join(&number);
    std::os::unix::fs::symlink(real, board.paths.os.block_devices.join(&number)).unwrap();
    let refused = |manifest| {
        let problems = board.refuses_before_writing(manifest);
        assert!(
            problems.iter().any(|p| p.contains("is mounted at")),
            "{problems:?}"
        );
    };
    // What the pool remembers of the images is no write of the update.
    let _ = board
        .device()
        .activate(inside.id.as_str(), &avocado_events::Silent);
    refused(&inside);
    // Beside it nothing is in the way.
    board.writes(&beside);
    let rootfs = board::rootfs("new");
    let written = fs::read(&disk.device).unwrap();
    assert!(written[10 * MIB..].starts_with(&rootfs));
    disk.label_first_partition(&board, &node, "rootfs-b");
    refused(&by_label);
    // And there neither, once it is not mounted any more.
    disk.unmount();
    board.put_mounts();
    board.writes(&by_label);
    assert!(fs::read(&node).unwrap().starts_with(&rootfs));
}

/// As swap, LVM, LUKS and btrfs hold a device, which is in no list of mounts by its number.
#[test]
fn a_partition_that_something_else_holds_is_never_written() {
    const NAME: &str = "a_partition_that_something_else_holds_is_never_written";
    if !has_uboot_tools(NAME) {
        return;
    }
    let board = Board::new();
    board.set(&[("avocado_boot_slot", "a")]);
    let file = board.at("disk.img");
    let mut bytes = table(8 * 2048);
    bytes.resize(12 * MIB, 0);
    fs::write(&file, bytes).unwrap();
    let disk = LoopDisk::new(&file);
    let node = disk
        .as_ref()
        .and_then(|disk| disk.first_partition(board.dir.path()));
    let (Some(disk), Some(node)) = (disk, node) else {
        avocado_test_support::skip(NAME, "there are no loop devices with partitions here");
        return;
    };
    let manifest = board.add("1", &TestBundle::new("new"));
    board.take_partition("rootfs-b");
    disk.label_first_partition(&board, &node, "rootfs-b");
    let flags = rustix::fs::OFlags::EXCL | rustix::fs::OFlags::RDONLY;
    let held = rustix::fs::open(&node, flags, rustix::fs::Mode::empty()).unwrap();
    let why = board.refuses(&manifest);
    assert!(why.contains("is in use by the kernel"), "{why}");
    assert_eq!(board.get("avocado_boot_slot"), "a");
    drop(held);
    board.writes(&manifest);
}
