//! From an archive to its tree.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, makedev};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use super::holes::KeptBytes;
use super::order::EntryOrder;
use super::pack::PackedAmount;
use super::{
    ATTRIBUTES, ArchivedDevices, CheckedHeaders, ROOT, SIZE, TIME, copy_with_holes, strange,
};
use crate::error::{At as _, BuildError};
use crate::trees::attributes::{self, Attribute};
use crate::trees::{Tree, is};

/// What is known of an entry beside its content.
struct EntryNotes {
    path: PathBuf,
    mode: u32,
    owner: (u32, u32),
    time: (i64, i64),
    attributes: Vec<Attribute>,
}

/// What an archive may have in it at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArchiveLimits {
    /// How many entries: files, their other names, directories, links.
    pub(crate) entries: u64,
    /// How many bytes the files have.
    pub(crate) bytes: u64,
    /// How many of these a disk keeps, in the blocks in which holes are found.
    pub(crate) disk_bytes: u64,
    /// How many bytes the extended attributes have, names and values.
    pub(crate) attribute_bytes: u64,
}

/// For an archive of which no more than that is known.
impl From<u64> for ArchiveLimits {
    fn from(bytes: u64) -> Self {
        ArchiveLimits {
            entries: u64::MAX,
            bytes,
            disk_bytes: bytes,
            attribute_bytes: u64::MAX,
        }
    }
}

impl From<PackedAmount> for ArchiveLimits {
    fn from(packed: PackedAmount) -> Self {
        ArchiveLimits {
            entries: packed.entries,
            bytes: packed.bytes,
            disk_bytes: packed.disk_bytes,
            attribute_bytes: packed.attribute_bytes,
        }
    }
}

/// Makes the tree of an archive below `root`, which is empty. Fails where there is more in it than the
/// limits say, and where an entry comes twice or is not as our own archives have it.
pub(crate) fn unpack(
    from: impl Read,
    root: &Tree,
    limits: impl Into<ArchiveLimits>,
    devices: ArchivedDevices,
) -> Result<(), BuildError> {
    let mut archive = Archive::new(CheckedHeaders::new(from));
    let mut unpacking = Unpacking {
        root,
        left: limits.into(),
        devices,
    };
    let mut order = EntryOrder::default();
    let mut directories = Vec::new();
    let entries = archive.entries().at("unpack", root.path())?;
    for entry in entries {
        let mut entry = entry.at("unpack", root.path())?;
        let notes = EntryNotes::of(&mut entry).at("unpack", root.path())?;
        take(&mut unpacking.left.entries, 1)?;
        let attribute_bytes = attributes::total_bytes(&notes.attributes);
        take(&mut unpacking.left.attribute_bytes, attribute_bytes)?;
        let is_directory = entry.header().entry_type() == EntryType::Directory;
        order.take(&notes.path, is_directory)?;
        if is_directory {
            root.make_directories(&notes.path)?;
            directories.push(notes);
        } else if unpacking.unpack_one(&mut entry, &notes)? {
            notes.give_to(root)?;
        }
    }
    if directories.is_empty() {
        return Err(strange("has nothing in it"));
    }
    // Last, and bottom up: what is made in a directory changes its time, and one may well be such that
    // its owner cannot write there.
    for notes in directories.iter().rev() {
        notes.give_to(root)?;
    }
    Ok(())
}

/// Takes so much of what is left.
fn take(left: &mut u64, taken: u64) -> Result<(), BuildError> {
    let less = left.checked_sub(taken);
    *left = less.ok_or_else(|| strange("has more in it than it should"))?;
    Ok(())
}

struct Unpacking<'u> {
    root: &'u Tree,
    /// What may still come.
    left: ArchiveLimits,
    devices: ArchivedDevices,
}

impl Unpacking<'_> {
    /// False where it is another name of what has all of it already.
    fn unpack_one(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        notes: &EntryNotes,
    ) -> Result<bool, BuildError> {
        let (root, path) = (self.root, &notes.path);
        let link = |entry: &Entry<'_, _>| match entry.link_name_bytes() {
            Some(bytes) => Ok(PathBuf::from(OsString::from_vec(bytes.into()))),
            None => Err(strange("has a link to nothing")),
        };
        match entry.header().entry_type() {
            EntryType::Regular => {
                let size = entry.size();
                take(&mut self.left.bytes, size)?;
                let file = root.create(path)?;
                let mut kept = KeptBytes::new(entry, self.left.disk_bytes);
                let written = copy_with_holes(&mut kept, &file).at("write", &root.shown(path))?;
                take(&mut self.left.disk_bytes, kept.kept())?;
                if written != size {
                    return Err(strange("ends within a file"));
                }
            }
            EntryType::Symlink => root.symlink(link(entry)?, path)?,
            EntryType::Link => {
                let first = inside(&link(entry)?).ok_or_else(|| strange("has a link out of it"))?;
                if !root.hard_link(first, path)? {
                    return Err(strange("has one file in two file systems"));
                }
                return Ok(false);
            }
            _ => self.make_node(entry, notes)?,
        }
        Ok(true)
    }

    fn make_node(
        &self,
        entry: &Entry<'_, impl Read>,
        notes: &EntryNotes,
    ) -> Result<(), BuildError> {
        let root = self.root;
        let header = entry.header();
        let kind = match header.entry_type() {
            EntryType::Fifo => FileType::Fifo,
            EntryType::Char => FileType::CharacterDevice,
            EntryType::Block => FileType::BlockDevice,
            _ => return Err(strange("has something in it that no tree has")),
        };
        let number = |found: io::Result<Option<u32>>| {
            let number = found.map(Option::unwrap_or_default);
            number.at("unpack", root.path())
        };
        let (major, minor) = (
            number(header.device_major())?,
            number(header.device_minor())?,
        );
        let is_device = kind != FileType::Fifo && (major, minor) != (0, 0);
        if is_device && self.devices == ArchivedDevices::Refused {
            return Err(strange(&format!(
                "has a device in it: {}",
                notes.path.display()
            )));
        }
        root.make_node(&notes.path, kind, notes.mode, makedev(major, minor))
    }
}

/// Whether a record beside the header says how long the entry is. The library would go by it, and who
/// checked the header did not.
pub(crate) fn states_size(entry: &mut Entry<'_, impl Read>) -> io::Result<bool> {
    for record in entry.pax_extensions()?.into_iter().flatten() {
        if record?.key_bytes() == SIZE.as_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl EntryNotes {
    fn of(entry: &mut Entry<'_, impl Read>) -> io::Result<Self> {
        if states_size(entry)? {
            return Err(invalid("it has a length beside its header"));
        }
        let path = PathBuf::from(OsString::from_vec(entry.path_bytes().into()));
        let path = inside(&path).ok_or_else(|| invalid("it has a path out of it"))?;
        let header = entry.header();
        let id = |id: u64| u32::try_from(id).map_err(|_| invalid("it has an owner that cannot be"));
        let owner = (id(header.uid()?)?, id(header.gid()?)?);
        let mode = header.mode()? & 0o7777;
        let seconds = i64::try_from(header.mtime()?).map_err(|_| invalid("it has a wrong time"))?;
        let mut notes = EntryNotes {
            path,
            mode,
            owner,
            time: (seconds, 0),
            attributes: Vec::new(),
        };
        for record in entry.pax_extensions()?.into_iter().flatten() {
            let record = record?;
            let value = std::str::from_utf8(record.value_bytes());
            match (record.key_bytes(), value) {
                (name, Ok(value)) if name == TIME.as_bytes() => {
                    notes.time = time(value).ok_or_else(|| invalid("it has a wrong time"))?;
                }
                (name, Ok(value)) if name == ATTRIBUTES.as_bytes() => {
                    let read = attributes::from_text(value);
                    notes.attributes =
                        read.ok_or_else(|| invalid("it has wrong extended attributes"))?;
                }
                _ => {}
            }
        }
        Ok(notes)
    }

    /// In the order in which one takes nothing from another: a new owner takes special modes away, and
    /// every change of content capabilities.
    fn give_to(&self, root: &Tree) -> Result<(), BuildError> {
        let path = &self.path;
        let Some(found) = root.look(path)? else {
            return Ok(());
        };
        let is_link = is(&found, FileType::Symlink);
        if (found.st_uid, found.st_gid) != self.owner {
            match root.set_owner_to(path, self.owner) {
                // As in a step: without root, nothing is given away, and in an image all is root's.
                Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
                Err(e) => {
                    let refused: io::Result<()> = Err(e.into());
                    refused.at("set the owner of", &root.shown(path))?;
                }
            }
        }
        if !is_link {
            root.set_mode(path, self.mode)?;
            root.set_attributes(path, &self.attributes)?;
        }
        root.set_precise_time(path, self.time)
    }
}

/// A path in the archive as one in the tree; `None` where it is not.
fn inside(path: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(ROOT).ok()?;
    let is_plain = rest.components().all(|c| matches!(c, Component::Normal(_)));
    is_plain.then(|| rest.to_owned())
}

fn time(text: &str) -> Option<(i64, i64)> {
    let (seconds, fraction) = text.split_once('.')?;
    let nanoseconds = fraction.parse().ok()?;
    let is_fraction = fraction.len() == 9 && (0..1_000_000_000).contains(&nanoseconds);
    is_fraction.then_some((seconds.parse().ok()?, nanoseconds))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
