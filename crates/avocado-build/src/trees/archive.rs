//! A tree as one stream: a pax archive in which it is the directory `tree`. What is read from one may be
//! of a stranger, and comes into a tree by [`Tree`] alone.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, makedev};
use rustix::io::Errno;
use tar::{Archive, Builder, Entry, EntryType, Header};
use walkdir::WalkDir;

use super::Tree;
use super::attributes::{self, Attribute};
use crate::error::{At as _, BuildError};

/// What the tree is in the archive.
const ROOT: &str = "tree";

/// The standard record of a time with its fraction.
const TIME: &str = "mtime";

/// Our record of extended attributes, which may be of any bytes: records of others end with lines.
const ATTRIBUTES: &str = "AVOCADO.attributes";

/// Writes the tree at `root` as an archive. Returns how many bytes all of its files have.
pub(crate) fn pack(root: &Path, to: impl Write) -> Result<u64, BuildError> {
    let mut builder = Builder::new(to);
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut length = 0;
    let walk = WalkDir::new(root).follow_root_links(false);
    for entry in walk.sort_by_file_name() {
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
        };
        let inode = (metadata.dev(), metadata.ino());
        if let Some(first) = links.get(&inode).filter(|_| !metadata.is_dir()) {
            item.append_hard_link(first).at("pack", entry.path())?;
            continue;
        }
        length += item.append()?;
        if metadata.nlink() > 1 && !metadata.is_dir() {
            links.insert(inode, name);
        }
    }
    let finished = builder.into_inner().and_then(|mut to| to.flush());
    finished.at("pack", root)?;
    Ok(length)
}

struct PackedItem<'i, W: Write> {
    builder: &'i mut Builder<W>,
    path: &'i Path,
    name: &'i Path,
    metadata: &'i Metadata,
}

impl<W: Write> PackedItem<'_, W> {
    fn append(&mut self) -> Result<u64, BuildError> {
        let kind = self.metadata.file_type();
        self.append_records().at("pack", self.path)?;
        let mut header = self.header();
        if kind.is_file() {
            let file = File::open(self.path).at("open", self.path)?;
            let length = self.metadata.len();
            header.set_entry_type(EntryType::Regular);
            header.set_size(length);
            // One that grows meanwhile would spoil what follows.
            let packed = self
                .builder
                .append_data(&mut header, self.name, file.take(length));
            packed.at("pack", self.path)?;
            return Ok(length);
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(self.path).at("read", self.path)?;
            header.set_entry_type(EntryType::Symlink);
            let packed = self.builder.append_link(&mut header, self.name, target);
            packed.at("pack", self.path)?;
            return Ok(0);
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
        let packed = header
            .set_device_major(rustix::fs::major(device))
            .and_then(|()| header.set_device_minor(rustix::fs::minor(device)))
            .and_then(|()| {
                self.builder
                    .append_data(&mut header, self.name, io::empty())
            });
        packed.at("pack", self.path)?;
        Ok(0)
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

    /// What the header has no place for.
    fn append_records(&mut self) -> io::Result<()> {
        let (seconds, nanoseconds) = (self.metadata.mtime(), self.metadata.mtime_nsec());
        let mut records = Vec::new();
        if nanoseconds != 0 || seconds < 0 {
            records.push((TIME, format!("{seconds}.{nanoseconds:09}")));
        }
        let found = attributes::attributes(self.path, self.metadata)?;
        if !found.is_empty() {
            records.push((ATTRIBUTES, attributes::to_text(&found)));
        }
        if records.is_empty() {
            return Ok(());
        }
        let records = records.iter();
        let records = records.map(|(name, value)| (*name, value.as_bytes()));
        self.builder.append_pax_extensions(records)
    }
}

/// What is known of an entry beside its content.
struct EntryNotes {
    path: PathBuf,
    mode: u32,
    owner: (u32, u32),
    time: (i64, i64),
    attributes: Vec<Attribute>,
}

/// Makes the tree of an archive below `root`, which is empty. Fails where its files have more than
/// `length` bytes.
pub(crate) fn unpack(from: impl Read, root: &Tree, length: u64) -> Result<(), BuildError> {
    let mut archive = Archive::new(from);
    let mut left = length;
    let mut directories = Vec::new();
    let entries = archive.entries().at("unpack", root.path())?;
    for entry in entries {
        let mut entry = entry.at("unpack", root.path())?;
        let notes = EntryNotes::of(&mut entry).at("unpack", root.path())?;
        if entry.header().entry_type() == EntryType::Directory {
            root.make_directories(&notes.path)?;
            directories.push(notes);
            continue;
        }
        if notes.path.as_os_str().is_empty() {
            return Err(strange("has a file in the place of its tree"));
        }
        if !unpack_one(&mut entry, &notes, root, &mut left)? {
            continue;
        }
        notes.give_to(root)?;
    }
    // Last, and bottom up: what is made in a directory changes its time, and one may well be such that
    // its owner cannot write there.
    for notes in directories.iter().rev() {
        notes.give_to(root)?;
    }
    Ok(())
}

/// False where it is another name of what has all of it already.
fn unpack_one(
    entry: &mut Entry<'_, impl Read>,
    notes: &EntryNotes,
    root: &Tree,
    left: &mut u64,
) -> Result<bool, BuildError> {
    let path = &notes.path;
    let link = |entry: &Entry<'_, _>| match entry.link_name_bytes() {
        Some(bytes) => Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes.into()))),
        None => Err(strange("has a link to nothing")),
    };
    match entry.header().entry_type() {
        EntryType::Regular => {
            let size = entry.size();
            *left = left
                .checked_sub(size)
                .ok_or_else(|| strange("has more in it than it should"))?;
            let file = root.create(path)?;
            let written = copy_with_holes(entry, &file).at("write", &root.shown(path))?;
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
        kind => {
            let kind = match kind {
                EntryType::Fifo => FileType::Fifo,
                EntryType::Char => FileType::CharacterDevice,
                EntryType::Block => FileType::BlockDevice,
                _ => return Err(strange("has something in it that no tree has")),
            };
            let header = entry.header();
            let number = |found: io::Result<Option<u32>>| {
                found
                    .map(Option::unwrap_or_default)
                    .at("unpack", root.path())
            };
            let (major, minor) = (
                number(header.device_major())?,
                number(header.device_minor())?,
            );
            root.make_node(path, kind, notes.mode, makedev(major, minor))?;
        }
    }
    Ok(true)
}

impl EntryNotes {
    fn of(entry: &mut Entry<'_, impl Read>) -> io::Result<Self> {
        let path = PathBuf::from(std::ffi::OsString::from_vec(entry.path_bytes().into()));
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
        let is_link = super::is(&found, FileType::Symlink);
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

fn strange(what: &str) -> BuildError {
    BuildError::Invalid(format!("the archive of a tree {what}"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// As much of zeroes becomes a hole.
const BLOCK: usize = 4096;

/// Writes what is read to a file that is empty, with a hole wherever a block is zeroes.
pub(crate) fn copy_with_holes(from: &mut impl Read, mut file: &File) -> io::Result<u64> {
    let mut buffer = vec![0; 64 * BLOCK];
    let mut length = 0;
    let mut ends_with_hole = false;
    loop {
        // Whole buffers, so that blocks of the file are those that are looked at.
        let mut filled = 0;
        while filled < buffer.len() {
            match from.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        for block in buffer[..filled].chunks(BLOCK) {
            ends_with_hole = block.len() == BLOCK && block.iter().all(|byte| *byte == 0);
            if ends_with_hole {
                file.seek(SeekFrom::Current(BLOCK as i64))?;
            } else {
                file.write_all(block)?;
            }
        }
        length += filled as u64;
        if filled < buffer.len() {
            break;
        }
    }
    if ends_with_hole {
        file.set_len(length)?;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Everything of a tree that counts.
    fn told(root: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let mut links = HashMap::new();
        for entry in WalkDir::new(root).sort_by_file_name() {
            let entry = entry.unwrap();
            let relative = entry.path().strip_prefix(root).unwrap();
            let m = entry.metadata().unwrap();
            let content = if m.is_file() {
                format!(
                    "{:?}",
                    avocado_manifest::Digest::of(&fs::read(entry.path()).unwrap())
                )
            } else {
                format!("{:?}", fs::read_link(entry.path()).ok())
            };
            let first = links.entry(m.ino()).or_insert_with(|| relative.to_owned());
            let is_again = *first != relative;
            lines.push(format!(
                "{relative:?} {:o} {}.{} {:?} {content} {}{:?}",
                m.mode(),
                m.mtime(),
                m.mtime_nsec(),
                attributes::attributes(entry.path(), &m).unwrap(),
                if is_again { "= " } else { "" },
                is_again.then_some(first),
            ));
        }
        lines
    }

    #[test]
    fn a_tree_comes_out_as_it_went_in() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        let tree = Tree::fresh(&from).unwrap();
        let long = "a-long-name-".repeat(12);
        tree.write("usr/bin/tool", "tool", 0o4755).unwrap();
        tree.write(format!("usr/{long}/{long}"), "long", 0o600)
            .unwrap();
        tree.write("usr/empty", "", 0o644).unwrap();
        tree.hard_link("usr/bin/tool", "usr/bin/again").unwrap();
        tree.symlink("../../out/of/it", "usr/link").unwrap();
        tree.symlink(&long, format!("usr/link-{long}")).unwrap();
        tree.make_node("usr/pipe", FileType::Fifo, 0o620, 0)
            .unwrap();
        rustix::fs::setxattr(
            from.join("usr/empty"),
            "user.note",
            b"\n=\0",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
        let sparse = File::create(from.join("sparse")).unwrap();
        sparse.set_len(3 << 20).unwrap();
        (&sparse).write_all(b"begins").unwrap();
        let name = std::ffi::OsString::from_vec(b"no-utf8-\xff".to_vec());
        fs::write(from.join(&name), "x").unwrap();
        tree.set_precise_time("usr/empty", (1_000, 42)).unwrap();
        tree.set_precise_time("usr/link", (-5, 7)).unwrap();
        fs::set_permissions(from.join("usr/bin"), Permissions::from_mode(0o1711)).unwrap();
        tree.set_precise_time("usr/bin", (2_000, 0)).unwrap();
        tree.set_precise_time("", (3_000, 1)).unwrap();

        let mut archive = Vec::new();
        let length = pack(&from, &mut archive).unwrap();
        assert_eq!(length, 4 + 4 + 1 + (3 << 20));
        let mut again = Vec::new();
        pack(&from, &mut again).unwrap();
        assert!(archive == again);
        let to = Tree::fresh(&place.path().join("to")).unwrap();
        unpack(&archive[..], &to, length).unwrap();
        assert_eq!(told(to.path()), told(&from));
        let blocks = fs::metadata(to.path().join("sparse")).unwrap().blocks();
        assert!(blocks < 64, "{blocks}");
        let less = Tree::fresh(&place.path().join("less")).unwrap();
        unpack(&archive[..], &less, length - 1).unwrap_err();
        let cut = Tree::fresh(&place.path().join("cut")).unwrap();
        unpack(&archive[..archive.len() / 2], &cut, length).unwrap_err();
    }

    #[test]
    fn nothing_comes_out_beside_the_tree() {
        let place = tempfile::tempdir().unwrap();
        let made = |fill: &dyn Fn(&mut Builder<Vec<u8>>)| {
            let mut builder = Builder::new(Vec::new());
            fill(&mut builder);
            builder.into_inner().unwrap()
        };
        let header = |kind, size| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(size);
            header
        };
        // The library refuses to write such a path: it is written over another one.
        let with_path = |path: &[u8], kind| {
            let mut header = header(kind, 0);
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path);
            header.set_cksum();
            made(&|builder| builder.append(&header, io::empty()).unwrap())
        };
        let through_link = made(&|builder| {
            let mut link = header(EntryType::Symlink, 0);
            let outside = place.path().join("outside");
            builder
                .append_link(&mut link, "tree/link", outside)
                .unwrap();
            let mut file = header(EntryType::Regular, 1);
            builder
                .append_data(&mut file, "tree/link/x", &b"x"[..])
                .unwrap();
        });
        let hard_link = made(&|builder| {
            let mut link = header(EntryType::Link, 0);
            builder
                .append_link(&mut link, "tree/x", "/etc/passwd")
                .unwrap();
        });
        fs::create_dir(place.path().join("outside")).unwrap();
        for (name, archive) in [
            ("above", with_path(b"tree/../../x", EntryType::Regular)),
            ("absolute", with_path(b"/tree/x", EntryType::Regular)),
            ("beside", with_path(b"x", EntryType::Regular)),
            ("instead", with_path(b"tree", EntryType::Regular)),
            ("through a link", through_link),
            ("a link to the host", hard_link),
            ("no archive", b"x".repeat(2048)),
        ] {
            let tree = Tree::fresh(&place.path().join("t/tree")).unwrap();
            unpack(&archive[..], &tree, 1 << 20).expect_err(name);
            let left = fs::read_dir(place.path()).unwrap().count();
            assert_eq!(left, 2, "{name}");
            let outside = fs::read_dir(place.path().join("outside")).unwrap().count();
            assert_eq!(outside, 0, "{name}");
        }
    }
}
