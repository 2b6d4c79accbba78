//! A tree that packages, overlays and hooks have filled, and the only way into it. Links in such a
//! tree are data: they lead where they would lead a process that has the tree as its root
//! directory, and so never out of it.

mod place;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timestamps, Uid};
use rustix::io::Errno;
use rustix::time::Timespec;

use self::place::{Place, of_descriptor};
use super::attributes::{Attribute, set_attributes};
use crate::error::{At as _, BuildError, TreeFault};

/// More than any file of a tree has that is read as a whole: release files, units, accounts.
const LARGEST_TEXT: u64 = 16 << 20;

/// The directory of a tree. Every path below is relative to it, with or without a leading `/`.
#[derive(Debug)]
pub(crate) struct Tree {
    path: PathBuf,
    root: OwnedFd,
}

impl Tree {
    /// The tree in the directory `path`, which is no link itself.
    pub(crate) fn open(path: &Path) -> Result<Self, BuildError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty());
        Ok(Tree {
            path: path.to_owned(),
            root: root.map_err(io::Error::from).at("open the tree", path)?,
        })
    }

    /// An empty tree in the directory `path`, whatever was there.
    pub(crate) fn fresh(path: &Path) -> Result<Self, BuildError> {
        super::fresh(path)?;
        Tree::open(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where something in it is: the path for messages, and for those who take it as data.
    pub(crate) fn shown(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path.join(relative(path.as_ref()))
    }

    /// The path outside of what is at `path`, without any link on the way or at the end.
    pub(crate) fn resolve(&self, path: impl AsRef<Path>) -> Result<PathBuf, BuildError> {
        let path = path.as_ref();
        let found = self.open_at(path, OFlags::PATH);
        let found = found.map_err(|e| self.refused(path, "find", e))?;
        self.path_of(&found, path)
    }

    fn path_of(&self, found: &OwnedFd, path: &Path) -> Result<PathBuf, BuildError> {
        let link = |fd: BorrowedFd<'_>| fs::read_link(of_descriptor(fd));
        let (root, found) = link(self.root.as_fd())
            .and_then(|root| Ok((root, link(found.as_fd())?)))
            .at("find", &self.shown(path))?;
        match found.strip_prefix(&root) {
            Ok(inside) => Ok(self.shown(inside)),
            Err(_) => Err(self.wrong(path, "was moved meanwhile")),
        }
    }

    /// What is at `path` itself, be it a link; none where nothing is.
    pub(crate) fn look(&self, path: impl AsRef<Path>) -> Result<Option<Stat>, BuildError> {
        let path = path.as_ref();
        let found = self.place(path).and_then(|place| place.look());
        or_none(found).map_err(|e| self.refused(path, "look at", e))
    }

    /// Whether there is something at `path`, be it a link.
    pub(crate) fn has(&self, path: impl AsRef<Path>) -> bool {
        self.look(path).is_ok_and(|found| found.is_some())
    }

    /// Whether there is a directory at `path`, or a link to one.
    pub(crate) fn is_directory(&self, path: impl AsRef<Path>) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        self.open_at(path.as_ref(), flags).is_ok()
    }

    /// The regular file at `path`, to read; none where nothing is. A link to nothing and anything
    /// but a file are errors.
    pub(crate) fn file(&self, path: impl AsRef<Path>) -> Result<Option<File>, BuildError> {
        self.open_file(path.as_ref(), OFlags::RDONLY)
    }

    /// The same, to be changed in its place.
    pub(crate) fn file_to_change(
        &self,
        path: impl AsRef<Path>,
    ) -> Result<Option<File>, BuildError> {
        self.open_file(path.as_ref(), OFlags::RDWR)
    }

    fn open_file(&self, path: &Path, access: OFlags) -> Result<Option<File>, BuildError> {
        // A pipe would wait for its other end, and a device may act when it is opened.
        match self.open_at(path, OFlags::PATH).and_then(rustix::fs::fstat) {
            Err(Errno::NOENT | Errno::NOTDIR) if self.dangling(path).is_none() => return Ok(None),
            Err(e) => return Err(self.refused(path, "open", e)),
            Ok(found) if !is(&found, FileType::RegularFile) => {
                return Err(self.wrong(path, "is no regular file"));
            }
            Ok(_) => {}
        }
        let file = self.open_at(path, access | OFlags::NONBLOCK | OFlags::NOCTTY);
        let file = File::from(file.map_err(|e| self.refused(path, "open", e))?);
        let is_file = file.metadata().is_ok_and(|found| found.is_file());
        is_file
            .then_some(Some(file))
            .ok_or_else(|| self.wrong(path, "is no regular file"))
    }

    /// The text of the file at `path`; none where nothing is.
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> Result<Option<String>, BuildError> {
        let path = path.as_ref();
        let Some(file) = self.file(path)? else {
            return Ok(None);
        };
        let mut text = String::new();
        let mut file = file.take(LARGEST_TEXT + 1);
        file.read_to_string(&mut text)
            .at("read", &self.shown(path))?;
        if text.len() as u64 > LARGEST_TEXT {
            return Err(self.wrong(path, "is too large for such a file"));
        }
        Ok(Some(text))
    }

    /// The names in the directory at `path`, sorted; none where nothing is.
    pub(crate) fn names(&self, path: impl AsRef<Path>) -> Result<Vec<OsString>, BuildError> {
        let path = path.as_ref();
        let directory = match self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOENT) if self.dangling(path).is_none() => return Ok(Vec::new()),
            other => other.map_err(|e| self.refused(path, "read", e))?,
        };
        let entries = fs::read_dir(of_descriptor(directory.as_fd()));
        let names = entries.and_then(|e| e.map(|e| Ok(e?.file_name())).collect());
        let mut names: Vec<OsString> = names.at("read", &self.shown(path))?;
        names.sort();
        Ok(names)
    }

    /// Makes the directory at `path` and those above it, where they are missing.
    pub(crate) fn make_directories(&self, path: impl AsRef<Path>) -> Result<(), BuildError> {
        let mut made = PathBuf::new();
        for name in relative(path.as_ref()).iter() {
            made.push(name);
            if self.is_directory(&made) {
                continue;
            }
            let new = self
                .place(&made)
                .and_then(|at| rustix::fs::mkdirat(&at.directory, &at.name, Mode::from(0o777)));
            match new {
                Err(Errno::EXIST) if self.dangling(&made).is_none() => {
                    return Err(self.wrong(&made, "is no directory"));
                }
                Err(Errno::EXIST) => return Err(self.refused(&made, "make", Errno::NOENT)),
                other => other.map_err(|e| self.refused(&made, "make", e))?,
            }
        }
        Ok(())
    }

    /// Puts a file at `path`, in place of whatever file or link is there, and makes the directories
    /// above it.
    pub(crate) fn write(
        &self,
        path: impl AsRef<Path>,
        bytes: impl AsRef<[u8]>,
        mode: u32,
    ) -> Result<(), BuildError> {
        let path = path.as_ref();
        if let Some(parent) = path.parent() {
            self.make_directories(parent)?;
        }
        let place = self.place(path);
        let place = place.map_err(|e| self.refused(path, "write", e))?;
        let written = place.write(bytes.as_ref(), mode);
        written.at("write", &self.shown(path))
    }

    /// As [`Tree::write`], but a link at `path` stays, and what it leads to is replaced.
    pub(crate) fn rewrite(
        &self,
        path: impl AsRef<Path>,
        bytes: impl AsRef<[u8]>,
        mode: u32,
    ) -> Result<(), BuildError> {
        let place = self.resolve(path)?;
        self.write(
            place.strip_prefix(&self.path).unwrap_or(&place),
            bytes,
            mode,
        )
    }

    /// A new file at `path`, where nothing is.
    pub(crate) fn create(&self, path: impl AsRef<Path>) -> Result<File, BuildError> {
        let path = path.as_ref();
        let created = self.place(path).and_then(|place| place.create(0o600));
        created.map_err(|e| self.refused(path, "create", e))
    }

    /// Makes a link at `path`, in place of whatever is there, and the directories above it.
    pub(crate) fn symlink(
        &self,
        target: impl AsRef<Path>,
        path: impl AsRef<Path>,
    ) -> Result<(), BuildError> {
        let path = path.as_ref();
        if let Some(parent) = path.parent() {
            self.make_directories(parent)?;
        }
        self.clear(path)?;
        let made = self
            .place(path)
            .and_then(|at| rustix::fs::symlinkat(target.as_ref(), &at.directory, &at.name));
        made.map_err(|e| self.refused(path, "create", e))
    }

    /// Gives the file at `from` another name. False where that cannot be, since the names are in two
    /// file systems, or two subvolumes of one.
    pub(crate) fn hard_link(
        &self,
        from: impl AsRef<Path>,
        path: impl AsRef<Path>,
    ) -> Result<bool, BuildError> {
        let (from, path) = (from.as_ref(), path.as_ref());
        let linked = self.place(from).and_then(|from| {
            let at = self.place(path)?;
            let flags = AtFlags::empty();
            match rustix::fs::linkat(&from.directory, &from.name, &at.directory, &at.name, flags) {
                Err(Errno::XDEV) => Ok(false),
                linked => linked.map(|()| true),
            }
        });
        linked.map_err(|e| self.refused(path, "create", e))
    }

    /// Makes a pipe or a device.
    pub(crate) fn make_node(
        &self,
        path: impl AsRef<Path>,
        kind: FileType,
        mode: u32,
        device: u64,
    ) -> Result<(), BuildError> {
        let path = path.as_ref();
        let mode = Mode::from_raw_mode(mode);
        let made = self
            .place(path)
            .and_then(|at| rustix::fs::mknodat(&at.directory, &at.name, kind, mode, device));
        made.map_err(|e| self.refused(path, "create", e))
    }

    /// Sets the mode of what is at `path`, which is no link.
    pub(crate) fn set_mode(&self, path: impl AsRef<Path>, mode: u32) -> Result<(), BuildError> {
        let path = path.as_ref();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = self
            .place(path)
            .and_then(|at| rustix::fs::openat(&at.directory, &at.name, flags, Mode::empty()));
        let found = found.map_err(|e| self.refused(path, "set the mode of", e))?;
        // Of a link, which has no mode, the system says that it cannot.
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(of_descriptor(found.as_fd()), mode)
            .at("set the mode of", &self.shown(path))
    }

    /// Gives extended attributes to the file or directory at `path`.
    pub(crate) fn set_attributes(
        &self,
        path: impl AsRef<Path>,
        attributes: &[Attribute],
    ) -> Result<(), BuildError> {
        if attributes.is_empty() {
            return Ok(());
        }
        let path = path.as_ref();
        let place = self.place(path);
        let place = place.map_err(|e| self.refused(path, "give extended attributes to", e))?;
        let set = set_attributes(&place.path(), attributes);
        set.at("give extended attributes to", &self.shown(path))
    }

    /// Sets the time of the last change of what is at `path`, be it a link.
    pub(crate) fn set_time(&self, path: impl AsRef<Path>, seconds: i64) -> Result<(), BuildError> {
        self.set_precise_time(path, (seconds, 0))
    }

    /// The same, in seconds and nanoseconds. No path is the tree's own directory.
    pub(crate) fn set_precise_time(
        &self,
        path: impl AsRef<Path>,
        (tv_sec, tv_nsec): (i64, i64),
    ) -> Result<(), BuildError> {
        let path = path.as_ref();
        let time = Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        let set = self.place(path).and_then(|at| {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(&at.directory, &at.name, &times, flags)
        });
        set.map_err(|e| self.refused(path, "set the time of", e))
    }

    /// Gives what is at `path`, be it a link, to another user and group.
    pub(crate) fn set_owner(
        &self,
        path: impl AsRef<Path>,
        owner: &Metadata,
    ) -> Result<(), BuildError> {
        let path = path.as_ref();
        let user = Some(Uid::from_raw(owner.uid()));
        let group = Some(Gid::from_raw(owner.gid()));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let given = self
            .place(path)
            .and_then(|at| rustix::fs::chownat(&at.directory, &at.name, user, group, flags));
        given.map_err(|e| self.refused(path, "set the owner of", e))
    }

    /// The same by numbers. What the system answers is for the caller to judge.
    pub(crate) fn set_owner_to(
        &self,
        path: impl AsRef<Path>,
        (user, group): (u32, u32),
    ) -> Result<(), Errno> {
        let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let at = self.place(path.as_ref())?;
        rustix::fs::chownat(&at.directory, &at.name, user, group, flags)
    }

    /// Removes whatever is at `path`, with all that is in it; nothing there is fine.
    pub(crate) fn clear(&self, path: impl AsRef<Path>) -> Result<(), BuildError> {
        let path = path.as_ref();
        match self.place(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(e) => Err(self.refused(path, "remove", e)),
            Ok(at) => {
                let removed = avocado_fs::remove_tree(&at.path());
                removed
                    .map_err(|e| e.source)
                    .at("remove", &self.shown(path))
            }
        }
    }

    /// Removes the directory at `path` if nothing is in it.
    pub(crate) fn remove_if_empty(&self, path: impl AsRef<Path>) {
        if let Ok(at) = self.place(path.as_ref()) {
            let _ = rustix::fs::unlinkat(&at.directory, &at.name, AtFlags::REMOVEDIR);
        }
    }

    /// The first link on the way to `path` that leads to nothing, and where it leads.
    fn dangling(&self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        let path = relative(path);
        let mut prefixes: Vec<&Path> = path.ancestors().collect();
        prefixes.reverse();
        prefixes.into_iter().find_map(|prefix| {
            let target = self.place(prefix).and_then(|at| at.link()).ok()?;
            let found = self.open_at(prefix, OFlags::PATH);
            matches!(found, Err(Errno::NOENT)).then(|| (prefix.to_owned(), target))
        })
    }

    /// The open directory of what is at `path`, and its name there.
    fn place(&self, path: &Path) -> rustix::io::Result<Place> {
        let path = relative(path);
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent.to_owned(), name.to_owned()),
            _ => (PathBuf::new(), OsString::from(".")),
        };
        Ok(Place {
            directory: self.open_at(&parent, OFlags::PATH | OFlags::DIRECTORY)?,
            name,
        })
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = relative(path);
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &path
        };
        let flags = flags | OFlags::CLOEXEC;
        loop {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // Something was renamed anywhere on the host while `..` was looked up.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }

    /// The error of what the system refused.
    fn refused(&self, path: &Path, action: &'static str, error: Errno) -> BuildError {
        if error == Errno::NOENT
            && let Some((link, target)) = self.dangling(path)
        {
            let target = target.display();
            let what = format!("is a link to {target}, which the tree does not have");
            return self.wrong(&link, &what);
        }
        match error {
            Errno::LOOP => self.wrong(path, "is a link that leads to itself"),
            Errno::NOSYS => BuildError::Invalid(
                "this kernel has no openat2, without which a tree of packages cannot be opened \
                 safely: Linux 5.6 or later is needed"
                    .into(),
            ),
            error => BuildError::Io {
                action,
                path: self.shown(path),
                source: error.into(),
            },
        }
    }

    /// The error of what is not as it must be.
    fn wrong(&self, path: &Path, what: &str) -> BuildError {
        BuildError::Tree {
            tree: self.path.clone(),
            path: relative(path),
            fault: TreeFault {
                what: what.to_owned(),
            },
        }
    }
}

/// A path without `/` before it and without `.` and `..` in it, which no caller means.
fn relative(path: &Path) -> PathBuf {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    names.collect()
}

/// Whether what was found is of this kind.
pub(crate) fn is(found: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(found.st_mode) == kind
}

fn or_none<T>(result: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(e),
    }
}
