//! Where the partitions of a disk are.

use avocado_manifest::os_bundle::{DISK_SECTOR, DiskLayout, LayoutFault};
use serde_json::{Value, json};

use crate::error::StoneError;
use crate::manifest::{PartitionSpec, StorageDevice};

/// Where the first partition begins unless it says so, in bytes: the alignment that partitioning
/// tools keep, behind the partition table.
const FIRST_OFFSET: u64 = 1 << 20;

impl StorageDevice {
    /// Where its partitions are. `at` is the way to the disk in its manifest, for errors.
    ///
    /// # Errors
    /// Where a partition is empty, lies at the start of the disk or over another one, has a name that
    /// another one has, or does not consist of whole blocks; and where another one than the last
    /// expands.
    pub fn layout(&self, at: &str) -> Result<DiskLayout, StoneError> {
        let first = self.partitions.first();
        let partitions: Vec<Value> = self
            .partitions
            .iter()
            .map(|partition| stated(partition, first.is_some_and(|f| std::ptr::eq(f, partition))))
            .collect();
        let stated = json!({
            "device": self.devpath,
            "block_size": self.block_size,
            "partitions": partitions,
        });
        let layout = DiskLayout::from_json(stated).map_err(|source| StoneError::Disk {
            at: at.to_owned(),
            source,
        })?;
        self.check(at, &layout)?;
        Ok(layout)
    }

    fn check(&self, at: &str, layout: &DiskLayout) -> Result<(), StoneError> {
        let block_size = self.block_size.map_or(DISK_SECTOR, u64::from);
        let last = layout.partitions.len().saturating_sub(1);
        for (index, partition) in layout.partitions.iter().enumerate() {
            let why = if partition.size == 0 {
                LayoutFault::Empty.to_string()
            } else if partition.expand && partition.name.is_none() {
                "a partition that expands needs a name".to_owned()
            } else if partition.expand && index != last {
                "only the last partition can expand".to_owned()
            } else if let Err(fault) = layout.check(partition, block_size) {
                fault.to_string()
            } else {
                continue;
            };
            let field = format!("{at}.partitions[{index}]");
            return Err(StoneError::invalid(field, why));
        }
        Ok(())
    }
}

/// A partition in the shape of a bundle, which begins where the one before ends unless stated.
fn stated(partition: &PartitionSpec, is_first: bool) -> Value {
    let mut value = json!({
        "name": partition.name,
        "offset": partition.offset,
        "offset_unit": partition.offset_unit,
        "size": partition.size,
        "size_unit": partition.size_unit,
        "expand": partition.expand,
    });
    if is_first && partition.offset.is_none() {
        value["offset"] = FIRST_OFFSET.into();
        value["offset_unit"] = Value::Null;
    }
    value
}
