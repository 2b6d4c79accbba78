use std::ops::Range;

use crate::Name;

/// The unit of partition tables and of the kernel, in bytes, whatever a disk has: what is no whole number
/// of them is no partition.
pub const DISK_SECTOR: u64 = 512;

/// A disk whose partitions are found by their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskLayout {
    /// The device, for example `/dev/mmcblk0`. None: the one that the root file system is on.
    pub device: Option<String>,
    /// The size of a block in bytes, where the writer states one.
    pub block_size: Option<u32>,
    /// The partitions, in the order of the writer.
    pub partitions: Vec<LayoutPartition>,
}

/// Why a partition of a layout is no place on a disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutFault {
    /// It has no byte.
    #[error("a partition needs a size")]
    Empty,
    /// It is where the disk begins.
    #[error("it would lie over the partition table: a partition begins behind that")]
    OverTable,
    /// It has parts of a block.
    #[error("offset and size have to be multiples of the block size, {0} bytes")]
    Unaligned(u64),
    /// Some bytes are of another one as well.
    #[error("it lies over another partition, {}", .0.as_ref().map_or("one without a name", Name::as_str))]
    Overlap(Option<Name>),
    /// It is larger than what is left of the disk.
    #[error("it does not fit on the disk, which has {0} bytes")]
    BeyondDisk(u64),
}

/// A place on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutPartition {
    /// By which artifacts and actions name it.
    pub name: Option<Name>,
    /// Where it begins, in bytes from the start of the disk.
    pub offset: u64,
    /// Its size in bytes; the least that it has, where it expands.
    pub size: u64,
    /// Whether it takes what is left of the disk.
    pub expand: bool,
}

impl DiskLayout {
    /// The partition of a name.
    pub fn partition(&self, name: &Name) -> Option<&LayoutPartition> {
        self.partitions
            .iter()
            .find(|partition| partition.name.as_ref() == Some(name))
    }

    /// Whether one of its partitions is a place that can be written, in blocks of this size.
    ///
    /// # Errors
    /// Why it is none, whatever disk it is.
    pub fn check(&self, partition: &LayoutPartition, block: u64) -> Result<(), LayoutFault> {
        let whole = |bytes: u64| bytes.is_multiple_of(block);
        if partition.offset < DISK_SECTOR {
            return Err(LayoutFault::OverTable);
        }
        if partition.size == 0 && !partition.expand {
            return Err(LayoutFault::Empty);
        }
        if !whole(partition.offset) || !whole(partition.size) {
            return Err(LayoutFault::Unaligned(block));
        }
        let overlaps = |other: &&LayoutPartition| {
            !std::ptr::eq(*other, partition) && other.overlaps(partition)
        };
        match self.partitions.iter().find(overlaps) {
            Some(other) => Err(LayoutFault::Overlap(other.name.clone())),
            None => Ok(()),
        }
    }

    /// The bytes of one of its partitions on a disk of `length` bytes. One that expands ends with the last
    /// sector.
    ///
    /// # Errors
    /// As [`DiskLayout::check`] in sectors, and where it does not fit.
    pub fn range(
        &self,
        partition: &LayoutPartition,
        length: u64,
    ) -> Result<Range<u64>, LayoutFault> {
        self.check(partition, DISK_SECTOR)?;
        let least = partition.offset.saturating_add(partition.size);
        let end = if partition.expand {
            length / DISK_SECTOR * DISK_SECTOR
        } else {
            least
        };
        if end > length || least > end || end == partition.offset {
            return Err(LayoutFault::BeyondDisk(length));
        }
        Ok(partition.offset..end)
    }
}

impl LayoutPartition {
    /// The first byte that is not its own any more. One that expands owns all that follows.
    fn end(&self) -> u64 {
        if self.expand {
            return u64::MAX;
        }
        self.offset.saturating_add(self.size)
    }

    /// Whether a byte is in both.
    fn overlaps(&self, other: &LayoutPartition) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }
}
