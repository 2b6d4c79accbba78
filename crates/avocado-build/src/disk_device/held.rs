//! A disk that this program has for itself.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use avocado_events::{Cancel, Event, Sink, StepStatus};
use rustix::fs::{Mode, OFlags, major, minor};
use rustix::io::Errno;
use rustix::ioctl::{NoArg, opcode};

use super::image_copy::{ImageCopy, Told};
use super::{DiskDevice, DiskDeviceError, DiskDevicePaths};

/// How often the kernel is asked to read the table, while others look at the partitions for a moment.
const TRIES: u32 = 40;
/// How long between that.
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// How many bytes are done between two events.
const PROGRESS_STEP: u64 = 8 << 20;

/// A disk that this program has for itself. What the kernel uses cannot be had, and what is had nothing
/// can mount.
#[derive(Debug)]
pub struct HeldDisk {
    device: DiskDevice,
    file: File,
}

/// A disk that has an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenDisk {
    /// Whether the kernel knows the partitions that are on it now.
    pub is_known: bool,
}

impl DiskDevice {
    /// Takes it, if it is still the one that was found.
    ///
    /// # Errors
    /// Where it is in use, or is another one meanwhile.
    pub fn hold(self, paths: &DiskDevicePaths) -> Result<HeldDisk, DiskDeviceError> {
        let node = &self.node;
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
        let file = match rustix::fs::open(node, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::BUSY) => {
                return Err(DiskDeviceError::InUse {
                    path: node.clone(),
                    how: "the kernel or another program has it for itself".to_owned(),
                    hint: "`lsblk` shows what is mounted or made of it".to_owned(),
                });
            }
            Err(error) => return Err(DiskDeviceError::io("open", node)(error.into())),
        };
        let metadata = file.metadata();
        let metadata = metadata.map_err(DiskDeviceError::io("look at", node))?;
        let number = (major(metadata.rdev()), minor(metadata.rdev()));
        let is_same = metadata.file_type().is_block_device()
            && number == self.number
            && Self::numbered(paths, node, number)? == self;
        let size = (&file).seek(SeekFrom::End(0));
        let size = size.map_err(DiskDeviceError::io("look at", node))?;
        if !is_same || size != self.size {
            return Err(DiskDeviceError::Changed(self.node));
        }
        Ok(HeldDisk { device: self, file })
    }
}

impl HeldDisk {
    /// The disk.
    pub fn device(&self) -> &DiskDevice {
        &self.device
    }

    /// Writes an image to it, reads that back and lets the kernel read the partition table.
    ///
    /// # Errors
    /// Where the image is larger than the disk, a partition of it is open elsewhere, or it does not keep
    /// what is written to it.
    pub fn write(
        &self,
        image: &File,
        image_path: &Path,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<WrittenDisk, DiskDeviceError> {
        let node = self.device.node();
        let metadata = image.metadata();
        let length = metadata.map_err(DiskDeviceError::io("look at", image_path))?;
        let length = length.len();
        self.device.fits(Some(length), true)?;
        // A partition that another program has open has a cache of its own, which would be written later.
        // As the kernel drops partitions now, or tells that it cannot, this is known before a byte is lost.
        if self.read_table() == Err(Errno::BUSY) {
            return Err(DiskDeviceError::InUse {
                path: node.to_owned(),
                how: "another program has a partition of it open".to_owned(),
                hint: "end that program: `lsof` or `fuser` finds it".to_owned(),
            });
        }
        let copy = ImageCopy {
            image,
            image_path,
            length,
            disk: &self.file,
            node,
            size: self.device.size(),
        };
        let total = copy.end();
        let step = |name: &str, work: &dyn Fn(Told<'_>) -> Result<(), DiskDeviceError>| {
            let stage = format!("{name} {}", node.display());
            told(&stage, node, total, cancel, sink, work)
        };
        step("write to", &|told| copy.write(told))?;
        step("read back", &|told| copy.compare(told))?;
        Ok(WrittenDisk {
            // Where there are no partitions at all, as on some loop devices, it is an invalid question.
            is_known: matches!(self.read_table(), Ok(()) | Err(Errno::INVAL)),
        })
    }

    /// Lets the kernel read the partition table again.
    fn read_table(&self) -> Result<(), Errno> {
        for _ in 1..TRIES {
            match read_partition_table(&self.file) {
                // Who looks what is on a new partition has it open for a moment.
                Err(Errno::BUSY) => thread::sleep(BETWEEN_TRIES),
                done => return done,
            }
        }
        read_partition_table(&self.file)
    }
}

/// `BLKRRPART`, of which `rustix` has no function.
#[allow(unsafe_code)]
fn read_partition_table(disk: &File) -> Result<(), Errno> {
    const READ_TABLE: rustix::ioctl::Opcode = opcode::none(0x12, 95);
    // SAFETY: linux/fs.h has this number for a call without an argument: the kernel neither reads nor
    // writes memory of ours for it.
    unsafe { rustix::ioctl::ioctl(disk, NoArg::<READ_TABLE>::new()) }
}

/// Tells of a part of the work as of a step.
fn told(
    stage: &str,
    node: &Path,
    total: u64,
    cancel: &Cancel,
    sink: &dyn Sink,
    work: &dyn Fn(Told<'_>) -> Result<(), DiskDeviceError>,
) -> Result<(), DiskDeviceError> {
    sink.emit(Event::step(stage, StepStatus::Running, ""));
    let mut last = 0;
    let done = work(&mut |done| {
        if cancel.is_cancelled() {
            return Err(DiskDeviceError::Cancelled(node.to_owned()));
        }
        if done / PROGRESS_STEP > last / PROGRESS_STEP {
            sink.emit(Event::bytes(stage, "", done, Some(total)));
            last = done;
        }
        Ok(())
    });
    let (status, message) = match &done {
        Ok(()) => (StepStatus::Success, String::new()),
        Err(error) if error.is_cancelled() => (StepStatus::Stopped, error.to_string()),
        Err(error) => (StepStatus::Failed, error.to_string()),
    };
    sink.emit(Event::step(stage, status, message));
    done
}
