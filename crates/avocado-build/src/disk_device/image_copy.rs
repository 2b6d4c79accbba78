//! Writing an image to a disk, and comparing.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl};

use super::{BLOCK, DiskDeviceError};

/// How much is written at once, in bytes: cards are slow with less.
const CHUNK: u64 = 4 << 20;

/// How much at the end of a larger disk is made zero. Partition tables and RAID keep a copy of what they
/// are there, which would be found by those who look for it.
const TAIL: u64 = 1 << 20;

/// To what memory has to be aligned that a disk writes from by itself.
const ALIGNMENT: usize = 4096;

/// Tells how many bytes are done; ends the work where it says so.
pub(super) type Told<'a> = &'a mut dyn FnMut(u64) -> Result<(), DiskDeviceError>;

/// An image and the disk that it goes to.
pub(super) struct ImageCopy<'a> {
    pub(super) image: &'a File,
    pub(super) image_path: &'a Path,
    /// The size of the image in bytes.
    pub(super) length: u64,
    pub(super) disk: &'a File,
    pub(super) node: &'a Path,
    /// The size of the disk in bytes.
    pub(super) size: u64,
}

impl ImageCopy<'_> {
    /// How much of the disk the image takes: whole blocks.
    pub(super) fn end(&self) -> u64 {
        self.length.next_multiple_of(BLOCK)
    }

    /// Writes the image, zeros where it has holes. When this returns it is on the disk.
    pub(super) fn write(&self, told: Told<'_>) -> Result<(), DiskDeviceError> {
        self.bypass_cache();
        let mut buffer = AlignedBuffer::new();
        // The start is written last: where this is cut off, nothing takes what is there for a disk.
        let start = self.end().min(CHUNK);
        self.write_at(buffer.zeros(start), 0)?;
        let tail = self.tail();
        if tail < self.size {
            self.write_at(buffer.zeros(self.size - tail), tail)?;
        }
        self.sync()?;
        let mut at = start;
        told(0)?;
        while at < self.end() {
            let chunk = self.image_at(at, &mut buffer)?;
            self.write_at(chunk, at)?;
            at += chunk.len() as u64;
            told(at - start)?;
        }
        self.sync()?;
        let chunk = self.image_at(0, &mut buffer)?;
        self.write_at(chunk, 0)?;
        self.sync()?;
        told(self.end())
    }

    /// Reads it again, from the disk itself.
    pub(super) fn compare(&self, told: Told<'_>) -> Result<(), DiskDeviceError> {
        self.bypass_cache();
        // What the kernel still knows of it would be what was written.
        fadvise(self.disk, 0, None, Advice::DontNeed)
            .map_err(|e| DiskDeviceError::io("read", self.node)(e.into()))?;
        let (mut wanted, mut found) = (AlignedBuffer::new(), AlignedBuffer::new());
        let mut at = 0;
        told(0)?;
        while at < self.end() {
            let wanted = self.image_at(at, &mut wanted)?;
            self.compare_at(wanted, &mut found, at)?;
            at += wanted.len() as u64;
            told(at)?;
        }
        let tail = self.tail();
        if tail < self.size {
            self.compare_at(wanted.zeros(self.size - tail), &mut found, tail)?;
        }
        Ok(())
    }

    /// Where the end of the disk begins that is made zero.
    fn tail(&self) -> u64 {
        self.size.saturating_sub(TAIL).max(self.end())
    }

    /// What of the image is at this place of the disk.
    fn image_at<'b>(
        &self,
        at: u64,
        buffer: &'b mut AlignedBuffer,
    ) -> Result<&'b [u8], DiskDeviceError> {
        let chunk = buffer.first((self.end() - at).min(CHUNK));
        let known = usize::try_from(self.length - at).unwrap_or(usize::MAX);
        let (bytes, rest) = chunk.split_at_mut(known.min(chunk.len()));
        self.image
            .read_exact_at(bytes, at)
            .map_err(DiskDeviceError::io("read", self.image_path))?;
        rest.fill(0);
        Ok(chunk)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), DiskDeviceError> {
        let written = self.disk.write_all_at(bytes, at);
        written.map_err(DiskDeviceError::io("write to", self.node))
    }

    fn sync(&self) -> Result<(), DiskDeviceError> {
        let synced = self.disk.sync_all();
        synced.map_err(DiskDeviceError::io("write to", self.node))
    }

    fn compare_at(
        &self,
        wanted: &[u8],
        buffer: &mut AlignedBuffer,
        at: u64,
    ) -> Result<(), DiskDeviceError> {
        let found = buffer.first(wanted.len() as u64);
        self.disk
            .read_exact_at(found, at)
            .map_err(DiskDeviceError::io("read back", self.node))?;
        if found == wanted {
            return Ok(());
        }
        let same = found.iter().zip(wanted).take_while(|(a, b)| a == b);
        Err(DiskDeviceError::ReadBack {
            path: self.node.to_owned(),
            offset: at + same.count() as u64,
        })
    }

    /// From here on reads and writes are the disk's own, so that progress is true and what is read is what
    /// it has. Where that cannot be, `sync` and `fadvise` are what there is.
    fn bypass_cache(&self) {
        if let Ok(flags) = fcntl_getfl(self.disk) {
            _ = fcntl_setfl(self.disk, flags | OFlags::DIRECT);
        }
    }
}

/// Memory for one chunk, where a disk can write from by itself.
struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    fn new() -> Self {
        let memory = vec![0; CHUNK as usize + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        AlignedBuffer { memory, start }
    }

    /// The first bytes of it, a chunk at most.
    fn first(&mut self, length: u64) -> &mut [u8] {
        let length = usize::try_from(length.min(CHUNK)).unwrap_or(0);
        let range = self.start..self.start.saturating_add(length);
        self.memory.get_mut(range).unwrap_or_default()
    }

    fn zeros(&mut self, length: u64) -> &[u8] {
        let bytes = self.first(length);
        bytes.fill(0);
        bytes
    }
}
