//! Mount points on a machine that does not have them, without a trace on it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind_recursive, unmount};
use rustix::process::{chdir, pivot_root};

use super::shares::TEMPORARY;
use crate::host::namespace::{COVERED, NamespaceError, PRIVATE, context, cover_and_show};

/// Makes sure that there are directories to mount at, in this mount namespace. Where one is missing, what
/// is above it is covered by a temporary file system that shows everything that was there. Below what
/// each job has anew, or `hidden`, they are made with that.
pub(super) fn make(points: &[&Path], hidden: &[PathBuf]) -> Result<(), NamespaceError> {
    let anew: Vec<&Path> = PRIVATE
        .iter()
        .map(|(path, _)| Path::new(*path))
        .chain([Path::new(COVERED)])
        .chain(hidden.iter().map(PathBuf::as_path))
        .collect();
    for point in points {
        if point.exists() || anew.iter().any(|path| point.starts_with(path)) {
            continue;
        }
        let above = point.ancestors().find(|path| path.is_dir());
        match above {
            Some(above) if above != Path::new("/") => cover_and_show(above)?,
            _ => context(renew_root(), || "make a root directory for the step".into())?,
        }
        context(fs::create_dir_all(point), || {
            format!("create {}", point.display())
        })?;
    }
    Ok(())
}

/// A root directory that can be written to, in which everything is that was in the one before.
fn renew_root() -> io::Result<()> {
    let new = Path::new(TEMPORARY);
    // The one that is covered has to be in it.
    let temporary = fs::File::open(new)?;
    mount(
        "tmpfs",
        new,
        "tmpfs",
        MountFlags::empty(),
        Some(c"mode=0755"),
    )?;
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        let (old, place) = (entry.path(), new.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&old)?, &place)?;
        } else if kind.is_dir() {
            fs::create_dir(&place)?;
            let source = if old == new {
                crate::host::namespace::path_of(&temporary)
            } else {
                old
            };
            mount_bind_recursive(source, &place)?;
        } else if kind.is_file() {
            fs::File::create(&place)?;
            mount_bind_recursive(&old, &place)?;
        }
    }
    chdir(new)?;
    // The old one is mounted over the new one, and gone with the next call.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    Ok(())
}
