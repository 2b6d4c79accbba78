//! Disks that are made up of files, and a loop device where there is one.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use avocado_events::{Cancel, Event, Silent, Sink};
use tempfile::TempDir;

use super::image_copy::ImageCopy;
use super::*;

/// What the kernel would tell, as files.
struct Kernel {
    dir: TempDir,
    paths: DiskDevicePaths,
}

impl Kernel {
    /// A disk of the machine with the root file system, and a stick with one partition.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let kernel = Kernel {
            paths: DiskDevicePaths {
                block_devices: root.join("dev/block"),
                mounts: root.join("mountinfo"),
                swaps: root.join("swaps"),
                nodes: "/dev".into(),
            },
            dir,
        };
        kernel.device("pci0/ata1/block/sda", "8:0", 1 << 30);
        kernel.part("pci0/ata1/block/sda/sda1", "8:1");
        kernel.device(STICK, "8:16", 1 << 30);
        kernel.part(&format!("{STICK}/sdb1"), "8:17");
        kernel.set("mountinfo", "22 1 8:1 / / rw - ext4 /dev/root rw");
        kernel.set(
            "swaps",
            "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0 partition 1 0 100",
        );
        kernel
    }

    fn set(&self, file: &str, text: &str) {
        let file = self.dir.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("{text}\n")).unwrap();
    }

    fn device(&self, place: &str, number: &str, size: u64) {
        self.part(place, number);
        self.set(&format!("{place}/size"), &(size / 512).to_string());
        self.set(&format!("{place}/removable"), "0");
        self.set(&format!("{place}/ro"), "0");
        self.set(&format!("{place}/queue/logical_block_size"), "512");
        fs::remove_file(self.dir.path().join(place).join("partition")).unwrap();
    }

    fn part(&self, place: &str, number: &str) {
        self.set(&format!("{place}/dev"), number);
        self.set(&format!("{place}/partition"), "1");
        let link = self.paths.block_devices.join(number);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(self.dir.path().join(place), link).unwrap();
    }

    /// Says that `holder` is made of what is at `place`.
    fn hold(&self, place: &str, holder: &str) {
        let holders = self.dir.path().join(place).join("holders");
        fs::create_dir_all(&holders).unwrap();
        let name = Path::new(holder).file_name().unwrap();
        symlink(self.dir.path().join(holder), holders.join(name)).unwrap();
    }

    fn find(&self, node: &str, number: (u32, u32)) -> Result<DiskDevice, DiskDeviceError> {
        DiskDevice::numbered(&self.paths, Path::new(node), number)
    }

    fn stick(&self) -> Result<DiskDevice, DiskDeviceError> {
        self.find("/dev/sdb", (8, 16))
    }
}

const STICK: &str = "pci0/usb2/2-1/2-1:1.0/host0/block/sdb";

#[test]
fn a_disk_is_described() {
    let kernel = Kernel::new();
    kernel.set("pci0/usb2/2-1/idVendor", "0781");
    kernel.set("pci0/usb2/2-1/serial", "4C53");
    kernel.set(&format!("{STICK}/device/vendor"), "Acme    ");
    kernel.set(&format!("{STICK}/device/model"), "Ultra");
    let stick = kernel.stick().unwrap();
    assert_eq!(stick.model(), Some("Acme Ultra"));
    assert_eq!(stick.serial(), Some("4C53"));
    assert_eq!((stick.size(), stick.partitions()), (1 << 30, 1));
    assert_eq!((stick.bus(), stick.is_removable()), (Some("USB"), false));

    let card = "platform/mmc_host/mmc0/mmc0:0001/block/mmcblk0";
    kernel.device(card, "179:0", 1 << 20);
    kernel.set(&format!("{card}/device/name"), "SD16G");
    kernel.set(&format!("{card}/device/serial"), "0x12345678");
    let card = kernel.find("/dev/mmcblk0", (179, 0)).unwrap();
    assert_eq!(card.model(), Some("SD16G"));
    assert_eq!(card.serial(), Some("0x12345678"));
    assert_eq!((card.bus(), card.partitions()), (Some("MMC"), 0));
}

#[test]
fn what_may_be_written_to_is_a_disk_that_comes_and_goes_and_has_the_room() {
    let kernel = Kernel::new();
    kernel.set("mountinfo", "");
    let fits =
        |disk: &DiskDevice, length, allow| disk.fits(length, allow).map_err(|e| e.to_string());
    let stick = kernel.stick().unwrap();
    assert_eq!(fits(&stick, Some(1 << 30), false), Ok(()));
    let small = fits(&stick, Some((1 << 30) + 1), true).unwrap_err();
    assert!(small.contains("1073741824 bytes"), "{small}");
    assert!(small.contains("1073741825"), "{small}");

    let fixed = kernel.find("/dev/sda", (8, 0)).unwrap();
    assert!(
        fits(&fixed, None, false)
            .unwrap_err()
            .contains("neither removable")
    );
    assert_eq!(fits(&fixed, None, true), Ok(()));
    let hint = fixed.fits(None, false).unwrap_err().hint().unwrap();
    assert!(hint.contains("--allow-fixed-disk"), "{hint}");

    kernel.set("pci0/ata1/block/sda/removable", "1");
    let removable = kernel.find("/dev/sda", (8, 0)).unwrap();
    assert_eq!(fits(&removable, None, false), Ok(()));
}

#[test]
fn what_is_no_disk_or_in_use_is_refused() {
    type Change = fn(&Kernel);
    let cases: [(&str, Change, &[&str]); 19] = [
        (
            "mounted",
            |k| {
                k.set(
                    "mountinfo",
                    "30 1 8:17 / /media/a\\040b rw - vfat /dev/sdb1 rw",
                )
            },
            &["mounted at /media/a\\040b", "umount /media"],
        ),
        (
            "mounted as a whole, and twice",
            |k| {
                k.set(
                    "mountinfo",
                    "30 1 8:16 / /a rw - vfat x rw\n31 1 8:16 / /b rw shared:1 - vfat x rw",
                )
            },
            &["mounted at /a /b"],
        ),
        (
            "mounted with a number of its own",
            |k| {
                k.set(
                    "mountinfo",
                    "30 1 0:40 /sub /data rw,x shared:2 - btrfs /dev/sdb1 rw",
                )
            },
            &["mounted at /data"],
        ),
        (
            "the root",
            |k| k.set("mountinfo", "22 1 8:17 / / rw - ext4 /dev/root rw"),
            &["running system", "/ is on it", "never"],
        ),
        (
            "the boot partition beside a mount of the user",
            |k| {
                k.set(
                    "mountinfo",
                    "22 1 8:17 / /mnt rw - ext4 x rw\n23 1 8:17 / /boot/efi rw - vfat x rw",
                )
            },
            &["running system", "/boot/efi is on it"],
        ),
        (
            "the root in LVM on LUKS",
            |k| {
                k.device("virtual/block/dm-0", "252:0", 1 << 20);
                k.device("virtual/block/dm-1", "252:1", 1 << 20);
                k.hold(&format!("{STICK}/sdb1"), "virtual/block/dm-0");
                k.hold("virtual/block/dm-0", "virtual/block/dm-1");
                k.set("mountinfo", "22 1 252:1 / / rw - ext4 /dev/mapper/root rw");
            },
            &["running system"],
        ),
        (
            "swap on a partition",
            |k| k.set("swaps", "Filename Type\n/dev/sdb1 partition 1 0 -2"),
            &["swapped to (/dev/sdb1)", "swapoff /dev/sdb1"],
        ),
        (
            "LUKS that is open",
            |k| {
                k.device("virtual/block/dm-0", "252:0", 1 << 20);
                k.set("virtual/block/dm-0/dm/uuid", "CRYPT-LUKS2-12-home");
                k.set("virtual/block/dm-0/dm/name", "home");
                k.hold(&format!("{STICK}/sdb1"), "virtual/block/dm-0");
            },
            &["`home`", "cryptsetup close home"],
        ),
        (
            "LVM on LUKS: what is to be ended first",
            |k| {
                k.device("virtual/block/dm-0", "252:0", 1 << 20);
                k.set("virtual/block/dm-0/dm/uuid", "CRYPT-LUKS2-12-home");
                k.device("virtual/block/dm-1", "252:1", 1 << 20);
                k.set("virtual/block/dm-1/dm/uuid", "LVM-abc");
                k.set("virtual/block/dm-1/dm/name", "vg-a");
                k.hold(&format!("{STICK}/sdb1"), "virtual/block/dm-0");
                k.hold("virtual/block/dm-0", "virtual/block/dm-1");
            },
            &["`vg-a` of LVM", "vgchange"],
        ),
        (
            "RAID on the whole disk",
            |k| {
                k.device("virtual/block/md127", "9:127", 1 << 20);
                k.hold(STICK, "virtual/block/md127");
            },
            &["RAID md127", "mdadm --stop /dev/md127"],
        ),
        (
            "something else that is made of it",
            |k| {
                k.device("virtual/block/bcache0", "251:0", 1 << 20);
                k.hold(STICK, "virtual/block/bcache0");
            },
            &["`bcache0`", "lsblk"],
        ),
        (
            "a loop device",
            |k| {
                k.device("virtual/block/loop3", "7:3", 1 << 20);
                k.set("virtual/block/loop3/loop/backing_file", "/dev/sdb1");
            },
            &["/dev/loop3", "losetup --detach /dev/loop3"],
        ),
        (
            "no card in the reader",
            |k| k.set(&format!("{STICK}/size"), "0"),
            &["no medium"],
        ),
        (
            "a size that is none",
            |k| k.set(&format!("{STICK}/size"), "many"),
            &["size of /dev/sdb"],
        ),
        (
            "write-protected",
            |k| k.set(&format!("{STICK}/ro"), "1"),
            &["write-protected", "switch"],
        ),
        (
            "an optical drive",
            |k| k.set(&format!("{STICK}/device/type"), "5"),
            &["optical"],
        ),
        (
            "large blocks",
            |k| k.set(&format!("{STICK}/queue/logical_block_size"), "4096"),
            &["4096 bytes", "512"],
        ),
        (
            "a partition",
            |k| k.set(&format!("{STICK}/partition"), "1"),
            &["part of"],
        ),
        (
            "gone",
            |k| fs::remove_dir_all(k.dir.path().join(STICK)).unwrap(),
            &["/dev/sdb", "lsblk"],
        ),
    ];
    for (case, change, words) in cases {
        let kernel = Kernel::new();
        kernel.stick().unwrap();
        change(&kernel);
        let error = kernel.stick().expect_err(case);
        let text = format!("{error} {}", error.hint().unwrap_or_default());
        for word in words {
            assert!(text.contains(word), "{case}: {word}: {text}");
        }
    }
}

/// Another disk that is in use is no reason.
#[test]
fn what_others_are_used_for_does_not_count() {
    let kernel = Kernel::new();
    kernel.part(&format!("{STICK}/sdb10"), "8:26");
    kernel.device("pci0/usb3/block/sdba", "67:64", 1 << 20);
    kernel.set(
        "mountinfo",
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 1 67:64 / /a rw - vfat /dev/sdba rw\n\
         31 1 8:160 / /b rw - vfat /dev/sdk rw\n32 1 0:5 / /c rw - tmpfs sdb1 rw",
    );
    kernel.set("swaps", "Filename Type\n/dev/sdba partition 1 0 -2");
    kernel.stick().unwrap();
    let root = kernel.find("/dev/sda", (8, 0)).unwrap_err();
    assert!(matches!(root, DiskDeviceError::OfSystem { .. }), "{root}");
}

#[test]
fn a_partition_tells_its_disk() {
    let kernel = Kernel::new();
    let boot = "platform/mmc_host/mmc0/mmc0:0001/block/mmcblk0";
    kernel.device(boot, "179:0", 1 << 30);
    kernel.device(&format!("{boot}/mmcblk0boot0"), "179:8", 1 << 20);
    for (node, number, disk) in [
        ("/dev/sdb1", (8, 17), "/dev/sdb"),
        ("/dev/mmcblk0boot0", (179, 8), "/dev/mmcblk0"),
    ] {
        match kernel.find(node, number).unwrap_err() {
            DiskDeviceError::Partition { path, disk: of } => {
                assert_eq!((path, of), (PathBuf::from(node), PathBuf::from(disk)));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn what_is_no_block_device_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("disk.img");
    fs::write(&file, "x").unwrap();
    let find = |path: &Path| DiskDevice::find(&DiskDevicePaths::default(), path).unwrap_err();
    for (path, word) in [
        (file.as_path(), "--out"),
        (dir.path(), "--out"),
        (Path::new("/dev/null"), "lsblk"),
        (&dir.path().join("none"), "lsblk"),
    ] {
        let error = find(path);
        let hint = error.hint().unwrap();
        assert!(hint.contains(word), "{error}: {hint}");
    }
    assert_eq!(fs::read(file).unwrap(), b"x");
}

/// An image with holes and a last block that is not full, and a disk with other things on it.
struct Copy {
    _dir: TempDir,
    image: File,
    disk: File,
    length: u64,
    size: u64,
}

const MIB: u64 = 1 << 20;

impl Copy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let mut options = File::options();
            let options = options.read(true).write(true).create(true);
            options.open(dir.path().join(name)).unwrap()
        };
        let (image, disk) = (open("image"), open("disk"));
        let (length, size) = (9 * MIB + 700, 12 * MIB);
        image.write_all_at(b"the table", 512).unwrap();
        image.write_all_at(b"a boot loader", 5 * MIB).unwrap();
        image.write_all_at(b"the end", length - 7).unwrap();
        disk.write_all_at(&vec![0xa5; size as usize], 0).unwrap();
        Copy {
            _dir: dir,
            image,
            disk,
            length,
            size,
        }
    }

    fn copy(&self) -> ImageCopy<'_> {
        ImageCopy {
            image: &self.image,
            image_path: Path::new("image"),
            length: self.length,
            disk: &self.disk,
            node: Path::new("/dev/sdb"),
            size: self.size,
        }
    }

    fn bytes(file: &File, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = vec![0; (to - from) as usize];
        // Not as the copy reads: it has to have reached the file.
        let file = File::open(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(file)
        ));
        file.unwrap().read_exact_at(&mut bytes, from).unwrap();
        bytes
    }
}

#[test]
fn an_image_is_written_with_its_holes_and_the_end_of_the_disk_is_cleared() {
    let files = Copy::new();
    let copy = files.copy();
    let mut told = Vec::new();
    copy.write(&mut |done| {
        told.push(done);
        Ok(())
    })
    .unwrap();
    copy.compare(&mut |_| Ok(())).unwrap();
    let (length, size) = (files.length, files.size);
    let image = Copy::bytes(&files.image, 0, length);
    assert!(Copy::bytes(&files.disk, 0, length) == image);
    let end = 9 * MIB + 1024;
    assert_eq!(copy.end(), end);
    let rest = Copy::bytes(&files.disk, length, end);
    assert!(rest.iter().all(|byte| *byte == 0));
    let between = Copy::bytes(&files.disk, end, size - MIB);
    assert!(
        between.iter().all(|byte| *byte == 0xa5),
        "not ours to clear"
    );
    let tail = Copy::bytes(&files.disk, size - MIB, size);
    assert!(tail.iter().all(|byte| *byte == 0));
    assert!(told.is_sorted(), "{told:?}");
    assert_eq!(told.last(), Some(&end));
}

#[test]
fn other_bytes_are_found_wherever_they_are() {
    let files = Copy::new();
    let copy = files.copy();
    for place in [
        0,
        513,
        4 * MIB + 9,
        9 * MIB,
        files.length + 1,
        files.size - 1,
    ] {
        copy.write(&mut |_| Ok(())).unwrap();
        let disk = File::options();
        let path = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&files.disk)
        );
        let disk = disk.clone().write(true).open(path).unwrap();
        disk.write_all_at(b"\xff", place).unwrap();
        disk.sync_all().unwrap();
        match copy.compare(&mut |_| Ok(())) {
            Err(DiskDeviceError::ReadBack { offset, .. }) => assert_eq!(offset, place),
            other => panic!("{place}: {other:?}"),
        }
    }
}

/// A copy that is cut off leaves nothing at the start that would be taken for a disk.
#[test]
fn a_copy_that_is_stopped_leaves_no_table() {
    let files = Copy::new();
    let stop = |done: u64| match done {
        0 => Ok(()),
        _ => Err(DiskDeviceError::Cancelled("/dev/sdb".into())),
    };
    let error = files.copy().write(&mut { stop }).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    let start = Copy::bytes(&files.disk, 0, 4 * MIB);
    assert!(start.iter().all(|byte| *byte == 0));
    let next = Copy::bytes(&files.disk, 5 * MIB, 5 * MIB + 13);
    assert_eq!(next, b"a boot loader");
}

/// A loop device with a place for partitions, which goes with this.
struct LoopDevice(PathBuf);

impl LoopDevice {
    /// None where this machine gives none, which is told as a test that did not run.
    fn new(test: &str, file: &Path) -> Option<Self> {
        let mut losetup = Command::new("losetup");
        let losetup = losetup.args(["--find", "--show", "--partscan"]).arg(file);
        match losetup.output() {
            Ok(made) if made.status.success() => {
                let node = String::from_utf8(made.stdout).unwrap();
                Some(LoopDevice(node.trim().into()))
            }
            made => {
                avocado_test_support::skip(test, format!("no loop device can be made: {made:?}"));
                None
            }
        }
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
    }
}

/// Asks to stop when it hears of the first bytes.
struct StopAtFirst(Cancel);

impl Sink for StopAtFirst {
    fn emit(&self, event: Event) {
        if event.done.is_some() {
            self.0.cancel();
        }
    }
}

#[test]
fn a_device_is_held_written_and_read_back() {
    let test = "a_device_is_held_written_and_read_back";
    let dir = tempfile::tempdir().unwrap();
    let backing = dir.path().join("backing");
    fs::write(&backing, vec![0xa5; 32 << 20]).unwrap();
    let Some(device) = LoopDevice::new(test, &backing) else {
        return;
    };
    let node = &device.0;
    let paths = DiskDevicePaths::default();
    let image_path = dir.path().join("image");
    fs::write(&image_path, vec![1; 24 << 20]).unwrap();
    let table = "label: gpt\nstart=2048, size=2048, name=one\n";
    let image = File::options().read(true).write(true).open(&image_path);
    let image = image.unwrap();
    let mut sfdisk = Command::new("sfdisk");
    let sfdisk = sfdisk.args(["--quiet", "--wipe", "never"]).arg(&image_path);
    let Ok(mut sfdisk) = sfdisk.stdin(std::process::Stdio::piped()).spawn() else {
        return avocado_test_support::skip(test, "sfdisk is not installed");
    };
    std::io::Write::write_all(&mut sfdisk.stdin.take().unwrap(), table.as_bytes()).unwrap();
    assert!(sfdisk.wait().unwrap().success());

    // A partition that the table of the image does not have: the kernel forgets it where it reads that.
    let old = PathBuf::from(format!("{}p7", node.display()));
    let add_old = || {
        let mut addpart = Command::new("addpart");
        let added = addpart.arg(node).args(["7", "2048", "2048"]).status();
        assert!(added.unwrap().success());
        assert!(old.exists());
    };
    add_old();
    let found = DiskDevice::find(&paths, node).unwrap();
    assert_eq!((found.size(), found.partitions()), (32 << 20, 1));
    assert!(matches!(
        found.fits(None, false),
        Err(DiskDeviceError::Fixed(_))
    ));
    let held = found.clone().hold(&paths).unwrap();
    // What is held nothing else gets, and this process not twice.
    let again = found.hold(&paths).unwrap_err();
    assert!(matches!(again, DiskDeviceError::InUse { .. }), "{again}");
    let write = |held: &HeldDisk| held.write(&image, &image_path, &Cancel::new(), &Silent);
    assert_eq!(write(&held).unwrap(), WrittenDisk { is_known: true });
    drop(held);
    let expected = fs::read(&image_path).unwrap();
    let written = fs::read(&backing).unwrap();
    assert!(written[..expected.len()] == expected);
    assert!(written[31 << 20..].iter().all(|byte| *byte == 0));
    assert!(!old.exists(), "the kernel still has the partitions before");

    // A program that has a partition open keeps the disk, and nothing is written.
    add_old();
    image.write_all_at(b"another", 2 << 20).unwrap();
    let held = || {
        DiskDevice::find(&paths, node)
            .unwrap()
            .hold(&paths)
            .unwrap()
    };
    let open = File::open(&old).unwrap();
    let busy = write(&held()).unwrap_err();
    assert!(busy.to_string().contains("partition of it open"), "{busy}");
    drop(open);
    assert!(fs::read(&backing).unwrap() == written);

    let held = held();
    let cancel = Cancel::new();
    let stopped = held.write(&image, &image_path, &cancel, &StopAtFirst(cancel.clone()));
    assert!(stopped.unwrap_err().is_cancelled());
    assert_eq!(fs::read(&backing).unwrap()[..4096], [0; 4096]);
    image.set_len(33 << 20).unwrap();
    let large = write(&held).unwrap_err();
    assert!(matches!(large, DiskDeviceError::TooSmall { .. }), "{large}");
}
