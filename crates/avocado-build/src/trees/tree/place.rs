//! One name in a tree.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};

/// A name in a directory of a tree, which is open: what is done to the name is done there.
pub(super) struct Place {
    pub(super) directory: OwnedFd,
    pub(super) name: OsString,
}

impl Place {
    /// A path for what has to be given one: it leads through the open directory.
    pub(super) fn path(&self) -> PathBuf {
        of_descriptor(self.directory.as_fd()).join(&self.name)
    }

    pub(super) fn look(&self) -> rustix::io::Result<Stat> {
        rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    pub(super) fn link(&self) -> rustix::io::Result<PathBuf> {
        let link = rustix::fs::readlinkat(&self.directory, &self.name, Vec::new())?;
        Ok(OsString::from_vec(link.into_bytes()).into())
    }

    pub(super) fn create(&self, mode: u32) -> rustix::io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(mode);
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, &self.name, flags, mode).map(File::from)
    }

    pub(super) fn write(&self, bytes: &[u8], mode: u32) -> io::Result<()> {
        // The keys of a hash map are the randomness that the standard library has.
        let random = RandomState::new().build_hasher().finish();
        let new = Place {
            directory: self.directory.try_clone()?,
            name: format!(".{random:016x}.tmp").into(),
        };
        let mut file = new.create(0o600)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)))
            .and_then(|()| {
                let directory = &self.directory;
                Ok(rustix::fs::renameat(
                    directory, &new.name, directory, &self.name,
                )?)
            });
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&new.directory, &new.name, AtFlags::empty());
        }
        written
    }
}

/// The path by which this process reaches what it has open.
pub(super) fn of_descriptor(fd: BorrowedFd<'_>) -> PathBuf {
    Path::new("/proc/self/fd").join(OsStr::new(&fd.as_raw_fd().to_string()))
}
