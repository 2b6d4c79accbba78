use crate::Name;

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

    /// A partition that has a part of `partition` as well.
    pub fn overlapping(&self, partition: &LayoutPartition) -> Option<&LayoutPartition> {
        self.partitions
            .iter()
            .find(|other| !std::ptr::eq(*other, partition) && other.overlaps(partition))
    }
}

impl LayoutPartition {
    /// The first byte that is not its own any more. One that expands owns all that follows.
    pub fn end(&self) -> u64 {
        if self.expand {
            return u64::MAX;
        }
        self.offset.saturating_add(self.size)
    }

    /// Whether a byte is in both.
    pub fn overlaps(&self, other: &LayoutPartition) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }
}
