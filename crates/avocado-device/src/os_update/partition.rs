//! Partitions that artifacts are written to: where they are, and that nothing else is there.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use avocado_events::{Cancel, Event, Sink};
use avocado_fs::AtPath;
use avocado_fs::recorded::RecordedFile;
use avocado_manifest::os_bundle::DiskLayout;
use avocado_manifest::{Digest, DigestHasher, Name};
use rustix::fs::{Advice, Mode, OFlags, fadvise, major, minor};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::disk::{BlockDevices, LabelledPlace};
use super::error::OsUpdateError;
use crate::cancel;
use crate::error::FailureReason;
use crate::paths::DevicePaths;
use crate::store::files;

/// How much is written at once, in bytes.
const CHUNK: usize = 1 << 20;

/// The unit of the kernel's sizes and starts of partitions, in bytes, whatever the disk has.
const KERNEL_SECTOR: u64 = 512;

/// A place on a disk that is written as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartitionPlace {
    /// The partition, or the disk that it is on.
    pub(super) device: PathBuf,
    /// Where it begins on that device, in bytes.
    pub(super) offset: u64,
    /// Its size in bytes.
    pub(super) length: u64,
    /// The number of that device: its name may be given to another one before it is written.
    pub(super) number: u64,
}

impl PartitionPlace {
    /// The place of a partition that is to be written: as [`PartitionPlace::find`], and nothing of it is in use.
    pub(super) fn find_free(
        paths: &DevicePaths,
        layout: Option<&DiskLayout>,
        name: &Name,
    ) -> Result<Self, FailureReason> {
        PartitionPlace::find(paths, layout, name)?.free(paths)
    }

    /// The partition of a name: by its label, or else by its place in the layout.
    pub(super) fn find(
        paths: &DevicePaths,
        layout: Option<&DiskLayout>,
        name: &Name,
    ) -> Result<Self, FailureReason> {
        let devices = BlockDevices::read(paths)?;
        let stated = layout.and_then(|layout| layout.device.as_deref());
        let labelled = devices.labelled(name, stated.map(Path::new))?;
        if let LabelledPlace::Here(device) = labelled {
            let length = length(&device)?;
            let place = PartitionPlace {
                number: number(&device)?,
                device,
                offset: 0,
                length,
            };
            return Ok(place);
        }
        let known = layout.and_then(|layout| Some((layout, layout.partition(name)?)));
        let Some((layout, partition)) = known else {
            return Err(failed(match labelled {
                LabelledPlace::Elsewhere(why) => why,
                _ => format!(
                    "there is no partition {name}: neither with that label nor in the bundle's layout"
                ),
            }));
        };
        let disk = match stated {
            Some(device) => PathBuf::from(device),
            None => devices.disk_of_root()?,
        };
        let range = layout.range(partition, length(&disk)?);
        let range = range.map_err(|fault| {
            let disk = disk.display();
            failed(format!(
                "the partition {name} of the bundle's layout, on {disk}: {fault}"
            ))
        })?;
        Ok(PartitionPlace {
            number: number(&disk)?,
            device: disk,
            offset: range.start,
            length: range.end - range.start,
        })
    }

    /// Nothing of it is in use.
    fn free(self, paths: &DevicePaths) -> Result<Self, FailureReason> {
        match self.used(paths)? {
            Some(how) => Err(failed(format!("{} is {how}", self.device.display()))),
            None => Ok(self),
        }
    }

    /// How something of it is in use.
    fn used(&self, paths: &DevicePaths) -> Result<Option<String>, FailureReason> {
        let meta = fs::metadata(&self.device).map_err(FailureReason::file("read", &self.device))?;
        if !meta.file_type().is_block_device() {
            return Ok(None);
        }
        let number = meta.rdev();
        let mut devices = vec![format!("{}:{}", major(number), minor(number))];
        let mut nodes = Vec::new();
        if self.offset == 0 {
            nodes.push(self.device.clone());
        }
        // The kernel's own partitions of that disk, as far as they are in the same place.
        let below = paths.os.block_devices.join(&devices[0]);
        for name in avocado_fs::file_names(&below).unwrap_or_default() {
            let read = |file: &str| -> Option<String> {
                let text = fs::read_to_string(below.join(&name).join(file)).ok()?;
                Some(text.trim().to_owned())
            };
            let sectors = |file: &str| -> Option<u64> {
                read(file)?.parse::<u64>().ok()?.checked_mul(KERNEL_SECTOR)
            };
            if let (Some(start), Some(size), Some(device)) =
                (sectors("start"), sectors("size"), read("dev"))
                && start < self.offset.saturating_add(self.length)
                && self.offset < start.saturating_add(size)
            {
                devices.push(device);
                nodes.push(Path::new("/dev").join(&name));
            }
        }
        let mounts = &paths.os.mounts;
        let text = fs::read_to_string(mounts).map_err(FailureReason::file("read", mounts))?;
        // proc(5): id, parent, major:minor, root, mount point.
        let found = text.lines().find_map(|line| {
            let mut words = line.split(' ').skip(2);
            let device = words.next()?;
            let at = words.nth(1)?;
            devices.iter().any(|d| d == device).then(|| at.to_owned())
        });
        if let Some(at) = found {
            return Ok(Some(format!("mounted at {at}")));
        }
        // Swap, LVM, RAID, LUKS, and file systems that go by numbers of their own.
        let held = nodes
            .iter()
            .any(|node| hold(node).err() == Some(Errno::BUSY));
        Ok(held.then(|| "in use by the kernel".into()))
    }

    /// Writes `artifact` to the start of it, brings that to the disk, reads it again and compares.
    pub(super) fn write(
        &self,
        artifact: &Name,
        sha256: Digest,
        size: u64,
        bytes: &mut dyn Read,
        sink: &dyn Sink,
    ) -> Result<(), FailureReason> {
        let writer = PartitionWriter::open(self, artifact)?;
        let mut buffer = vec![0; CHUNK];
        let mut done: u64 = 0;
        while done < size {
            let wanted = usize::try_from(size - done).map_or(CHUNK, |left| left.min(CHUNK));
            let chunk = buffer.get_mut(..wanted).unwrap_or_default();
            bytes
                .read_exact(chunk)
                .map_err(FailureReason::file("unpack the bundle for", &self.device))?;
            writer.write_at(done, chunk)?;
            done += wanted as u64;
            sink.emit(Event::bytes(
                "os-update",
                artifact.as_str(),
                done,
                Some(size),
            ));
        }
        writer.finish(sha256, size)
    }

    /// The digest of its first bytes, as the disk has them.
    pub(super) fn read_digest(&self, size: u64, cancel: &Cancel) -> Result<Digest, FailureReason> {
        let file = File::open(&self.device).map_err(FailureReason::file("open", &self.device))?;
        let _ = fadvise(&file, self.offset, None, Advice::DontNeed);
        self.digest(&file, size, cancel)
    }

    /// Takes a partition, or finds that something else has it. The disk around a place cannot be taken:
    /// other partitions of it are in use.
    fn claim(&self) -> std::io::Result<Option<OwnedFd>> {
        let is_partition = fs::metadata(&self.device)?.file_type().is_block_device();
        if !is_partition || self.offset != 0 {
            return Ok(None);
        }
        Ok(Some(hold(&self.device)?))
    }

    /// The digest of its first bytes.
    fn digest(&self, file: &File, size: u64, cancel: &Cancel) -> Result<Digest, FailureReason> {
        let mut hasher = DigestHasher::default();
        let mut buffer = vec![0; Digest::BUFFER_LENGTH];
        let mut done: u64 = 0;
        while done < size {
            cancel::check(cancel)?;
            let left = usize::try_from(size - done).unwrap_or(usize::MAX);
            let chunk = left.min(buffer.len());
            let chunk = buffer.get_mut(..chunk).unwrap_or_default();
            file.read_exact_at(chunk, self.offset + done)
                .map_err(FailureReason::file("read", &self.device))?;
            hasher.update(chunk);
            done += chunk.len() as u64;
        }
        Ok(hasher.finish())
    }
}

/// A partition that is being written.
pub(super) struct PartitionWriter<'a> {
    place: &'a PartitionPlace,
    artifact: &'a Name,
    file: RecordedFile,
    /// While it is held nothing else can take the partition.
    _held: Option<OwnedFd>,
}

impl<'a> PartitionWriter<'a> {
    pub(super) fn open(
        place: &'a PartitionPlace,
        artifact: &'a Name,
    ) -> Result<Self, FailureReason> {
        let device = &place.device;
        let held = place.claim().at("open", device)?;
        let file = RecordedFile::open_device(device).at("open", device)?;
        if file.file().metadata().at("read", device)?.rdev() != place.number {
            return Err(failed(format!(
                "{} is another device than it was a moment ago",
                device.display()
            )));
        }
        Ok(PartitionWriter {
            place,
            artifact,
            file,
            _held: held,
        })
    }

    /// Reads what is there.
    pub(super) fn read_at(&self, at: u64, bytes: &mut [u8]) -> Result<(), FailureReason> {
        let device = &self.place.device;
        let read = self
            .file
            .file()
            .read_exact_at(bytes, self.place.offset + at);
        read.map_err(FailureReason::file("read", device))
    }

    pub(super) fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), FailureReason> {
        // Beyond its end is another one.
        if at.saturating_add(bytes.len() as u64) > self.place.length {
            return Err(OsUpdateError::Content(format!("{} is too large", self.artifact)).into());
        }
        let begin = self.place.offset + at;
        let written = self.file.write_at(begin, bytes);
        written.at("write", &self.place.device)?;
        // The kernel begins to bring it to the disk, while more is fetched.
        let length = NonZero::new(bytes.len() as u64);
        let _ = fadvise(self.file.file(), begin, length, Advice::DontNeed);
        Ok(())
    }

    /// Brings what was written to the disk.
    pub(super) fn sync(&self) -> Result<(), FailureReason> {
        Ok(self.file.sync().at("write", &self.place.device)?)
    }

    /// Brings it to the disk, and compares what is read from there with the digest of the artifact.
    pub(super) fn finish(self, sha256: Digest, size: u64) -> Result<(), FailureReason> {
        self.sync()?;
        let (place, file) = (self.place, self.file.file());
        // What is compared is what the disk has, not what the kernel still knows.
        let _ = fadvise(file, place.offset, None, Advice::DontNeed);
        if place.digest(file, size, &Cancel::new())? != sha256 {
            return Err(OsUpdateError::ReadBack {
                artifact: self.artifact.to_string(),
                partition: place.device.clone(),
            }
            .into());
        }
        Ok(())
    }
}

/// The number of a device.
fn number(device: &Path) -> Result<u64, FailureReason> {
    let found = fs::metadata(device).map_err(FailureReason::file("read", device))?;
    Ok(found.rdev())
}

/// Calls `work` with the directory of a boot partition (FAT), which is mounted for that.
pub(super) fn with_boot_files<T>(
    paths: &DevicePaths,
    device: &Path,
    work: impl FnOnce(&Path) -> Result<T, FailureReason>,
) -> Result<T, FailureReason> {
    if let Some(mounted) = &paths.os.mounted_boot {
        return work(mounted);
    }
    let place = paths.run.join("os-update/boot");
    files::create_private_dir(&place)?;
    let failed = |action: &'static str| {
        move |e: rustix::io::Errno| FailureReason::file(action, device)(e.into())
    };
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(device, &place, "vfat", flags, None).map_err(failed("mount"))?;
    let result = work(&place);
    let unmounted = rustix::mount::unmount(&place, UnmountFlags::empty());
    let result = result?;
    unmounted.map_err(failed("unmount"))?;
    Ok(result)
}

/// Holds a block device for this program alone. What the kernel uses is busy (open(2), `O_EXCL`).
fn hold(node: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::open(node, flags, Mode::empty())
}

/// The size of a device or a file in bytes.
pub(super) fn length(device: &Path) -> Result<u64, FailureReason> {
    let failed = FailureReason::file("read", device);
    let length = File::open(device).and_then(|mut file| file.seek(SeekFrom::End(0)));
    length.map_err(failed)
}

/// The first sector of a device.
pub(super) fn read_start(device: &Path) -> Result<[u8; 512], FailureReason> {
    let mut sector = [0; 512];
    let read = File::open(device).and_then(|mut file| file.read_exact(&mut sector));
    read.map_err(FailureReason::file("read", device))?;
    Ok(sector)
}

fn failed(why: String) -> FailureReason {
    OsUpdateError::Partition(why).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use avocado_events::Silent;

    #[test]
    fn what_is_read_back_is_compared_and_no_byte_is_written_beyond_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("device");
        fs::write(&device, vec![7; 4096]).unwrap();
        let place = PartitionPlace {
            device: device.clone(),
            offset: 512,
            length: 1024,
            number: 0,
        };
        let name: Name = "rootfs".parse().unwrap();
        let write = |bytes: &[u8], size: usize, sha256: Digest| {
            let result = place.write(&name, sha256, size as u64, &mut &*bytes, &Silent);
            let left = fs::read(&device).unwrap();
            assert_eq!(left.len(), 4096);
            assert!(
                left[..512]
                    .iter()
                    .chain(&left[1536..])
                    .all(|byte| *byte == 7)
            );
            result.map_err(|reason| avocado_events::chain(&reason))
        };
        let bytes = [1; 1024];
        write(&bytes, 1024, Digest::of(&bytes)).unwrap();
        let other = write(&bytes, 1024, Digest::of(b"other")).unwrap_err();
        assert!(other.contains("something else is read"), "{other}");
        let short = write(&bytes, 1000, Digest::of(&bytes[..1000])).map(drop);
        short.unwrap();
        let early = write(&bytes[..100], 1024, Digest::of(&bytes)).unwrap_err();
        assert!(early.contains("unpack"), "{early}");
        let long = [1; 1025];
        let large = write(&long, 1025, Digest::of(&long)).unwrap_err();
        assert!(large.contains("too large"), "{large}");
    }

    #[test]
    fn reading_stops_when_it_is_asked_to() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("device");
        fs::write(&device, [7; 4096]).unwrap();
        let place = PartitionPlace {
            device,
            offset: 512,
            length: 1024,
            number: 0,
        };
        let cancel = Cancel::new();
        assert_eq!(
            place.read_digest(1024, &cancel).unwrap(),
            Digest::of(&[7; 1024])
        );
        cancel.cancel();
        let stopped = place.read_digest(1024, &cancel);
        assert!(matches!(stopped, Err(FailureReason::Cancelled)));
    }
}
