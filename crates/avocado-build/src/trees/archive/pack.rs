//! From a tree to its archive.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tar::{Builder, EntryType, Header};
use walkdir::WalkDir;

use super::holes::KeptBytes;
use super::{ATTRIBUTES, ArchivedDevices, ROOT, TIME};
use crate::error::{At as _, BuildError};
use crate::trees::attributes;

/// What an archive has in it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackedAmount {
    /// How many entries: files, their other names, directories, links.
    pub(crate) entries: u64,
    /// How many regular files; one with several names counts once.
    pub(crate) files: u64,
    /// How many bytes they have.
    pub(crate) bytes: u64,
    /// How many of these they take on a disk, where all that can be a hole is one.
    pub(crate) disk_bytes: u64,
    /// How many bytes extended attributes have, names and values.
    pub(crate) attribute_bytes: u64,
}

/// Writes the tree at `root` as an archive, without what is at the paths `leave_out`, which are relative
/// to it.
pub(crate) fn pack(
    root: &Path,
    leave_out: &[&Path],
    devices: ArchivedDevices,
    to: impl Write,
) -> Result<PackedAmount, BuildError> {
    let mut builder = Builder::new(to);
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut amount = PackedAmount::default();
    let walk = WalkDir::new(root).follow_root_links(false);
    let is_wanted = |path: &Path| match path.strip_prefix(root) {
        Ok(relative) => !leave_out.contains(&relative),
        Err(_) => true,
    };
    let walk = walk.sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| is_wanted(entry.path())) {
        let entry = entry.map_err(io::Error::from).at("read", root)?;
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let name = Path::new(ROOT).join(relative);
        let metadata = entry.metadata().map_err(io::Error::from);
        let metadata = metadata.at("look at", entry.path())?;
        let mut item = PackedItem {
            builder: &mut builder,
            path: entry.path(),
            name: &name,
            metadata: &metadata,
            devices,
        };
        amount.entries += 1;
        let inode = (metadata.dev(), metadata.ino());
        if let Some(first) = links.get(&inode).filter(|_| !metadata.is_dir()) {
            item.append_hard_link(first).at("pack", entry.path())?;
            continue;
        }
        item.append(&mut amount)?;
        if metadata.is_file() {
            amount.files += 1;
            amount.bytes += metadata.len();
        }
        if metadata.nlink() > 1 && !metadata.is_dir() {
            links.insert(inode, name);
        }
    }
    let finished = builder.into_inner().and_then(|mut to| to.flush());
    finished.at("pack", root)?;
    Ok(amount)
}

struct PackedItem<'i, W: Write> {
    builder: &'i mut Builder<W>,
    path: &'i Path,
    name: &'i Path,
    metadata: &'i Metadata,
    devices: ArchivedDevices,
}

impl<W: Write> PackedItem<'_, W> {
    fn append(&mut self, amount: &mut PackedAmount) -> Result<(), BuildError> {
        let kind = self.metadata.file_type();
        amount.attribute_bytes += self.append_records().at("pack", self.path)?;
        let mut header = self.header();
        if kind.is_file() {
            let file = File::open(self.path).at("open", self.path)?;
            let length = self.metadata.len();
            header.set_entry_type(EntryType::Regular);
            header.set_size(length);
            // One that grows or shrinks meanwhile would spoil what follows.
            let mut content = KeptBytes::new(file.take(length), u64::MAX);
            let packed = self
                .builder
                .append_data(&mut header, self.name, &mut content);
            packed.at("pack", self.path)?;
            amount.disk_bytes += content.kept();
            if content.into_inner().limit() > 0 {
                return Err(BuildError::Changed {
                    path: self.path.to_owned(),
                });
            }
            return Ok(());
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(self.path).at("read", self.path)?;
            header.set_entry_type(EntryType::Symlink);
            let packed = self.builder.append_link(&mut header, self.name, target);
            return packed.at("pack", self.path);
        }
        let device = self.metadata.rdev();
        header.set_entry_type(if kind.is_dir() {
            EntryType::Directory
        } else if kind.is_fifo() {
            EntryType::Fifo
        } else if kind.is_char_device() {
            EntryType::Char
        } else if kind.is_block_device() {
            EntryType::Block
        } else {
            let what = format!("{} is nothing that can be packed", self.path.display());
            return Err(BuildError::Invalid(what));
        });
        let is_device = kind.is_char_device() || kind.is_block_device();
        if is_device && device != 0 && self.devices == ArchivedDevices::Refused {
            let what = format!(
                "{} is a device, which goes to no other machine: remove it, or what makes it",
                self.path.display()
            );
            return Err(BuildError::Invalid(what));
        }
        let packed = header
            .set_device_major(rustix::fs::major(device))
            .and_then(|()| header.set_device_minor(rustix::fs::minor(device)))
            .and_then(|()| {
                self.builder
                    .append_data(&mut header, self.name, io::empty())
            });
        packed.at("pack", self.path)
    }

    fn append_hard_link(&mut self, first: &Path) -> io::Result<()> {
        let mut header = self.header();
        header.set_entry_type(EntryType::Link);
        self.builder.append_link(&mut header, self.name, first)
    }

    fn header(&self) -> Header {
        let mut header = Header::new_gnu();
        header.set_mode(self.metadata.mode() & 0o7777);
        header.set_uid(self.metadata.uid().into());
        header.set_gid(self.metadata.gid().into());
        header.set_mtime(self.metadata.mtime().try_into().unwrap_or(0));
        header.set_size(0);
        header
    }

    /// What the header has no place for. Returns how many bytes extended attributes have.
    fn append_records(&mut self) -> io::Result<u64> {
        let (seconds, nanoseconds) = (self.metadata.mtime(), self.metadata.mtime_nsec());
        let mut records = Vec::new();
        if nanoseconds != 0 || seconds < 0 {
            records.push((TIME, format!("{seconds}.{nanoseconds:09}")));
        }
        let found = attributes::attributes(self.path, self.metadata)?;
        if !found.is_empty() {
            records.push((ATTRIBUTES, attributes::to_text(&found)));
        }
        if !records.is_empty() {
            let records = records.iter();
            let records = records.map(|(name, value)| (*name, value.as_bytes()));
            self.builder.append_pax_extensions(records)?;
        }
        Ok(attributes::total_bytes(&found))
    }
}
