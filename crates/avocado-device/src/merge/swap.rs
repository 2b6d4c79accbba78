//! A refresh that no process sees half done.
//!
//! systemd takes the old overlay away and then puts the new one in its place; a process that opens a file
//! of an extension in between does not find it. So we let it do that in a mount namespace of its
//! own, take the overlay that came of it, put it beneath the old one here, and take the old one
//! away: at any time there is exactly one of them to be seen.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::thread::UnshareFlags;

use super::mounts;
use super::release::ExtensionClass;
use crate::error::FailureReason;

/// The overlays of one class that were made and are not shown yet, by hierarchy; none where nothing
/// is merged.
#[derive(Debug)]
pub(crate) struct NewOverlays(Vec<Option<OwnedFd>>);

/// Runs `refresh`, which makes systemd merge anew and looks at what came of it, where only this
/// process sees it. None where this system cannot do that.
pub(crate) fn make<E: Send>(
    class: ExtensionClass,
    refresh: impl FnOnce() -> Result<(), E> + Send,
) -> Result<Option<NewOverlays>, E> {
    let apart = || -> Result<Option<NewOverlays>, E> {
        if !leave() {
            return Ok(None);
        }
        refresh()?;
        let take = |path: &&str| {
            if !is_merged(class, Path::new(path)) {
                return Ok(None);
            }
            open_tree(
                CWD,
                *path,
                OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_RECURSIVE,
            )
            .map(Some)
        };
        let taken: Result<Vec<_>, Errno> = class.hierarchies().iter().map(take).collect();
        Ok(taken.ok().map(NewOverlays))
    };
    // The namespace ends with the thread.
    let apart = std::thread::scope(|scope| scope.spawn(apart).join());
    apart.unwrap_or(Ok(None))
}

/// Shows new overlays in the place of the old ones. Returns whether this system can do it like
/// that; if not, nothing has changed.
pub(crate) fn show(class: ExtensionClass, new: &NewOverlays) -> Result<bool, FailureReason> {
    for (at, (path, new)) in class.hierarchies().iter().zip(&new.0).enumerate() {
        let path = Path::new(path);
        match exchange(class, path, new.as_ref()) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) if at == 0 => return Ok(false),
            Err(e) => return Err(FailureReason::file("mount over", path)(e.into())),
        }
    }
    Ok(true)
}

/// Takes away what a process that was killed had put beneath what is seen.
pub(crate) fn end_interrupted(class: ExtensionClass) -> Result<(), FailureReason> {
    leave_at_most(class, 1)
}

/// Takes away all that is merged of `class`, without asking what it is made of.
pub(crate) fn take_away(class: ExtensionClass) -> Result<(), FailureReason> {
    leave_at_most(class, 0)
}

fn leave_at_most(class: ExtensionClass, count: usize) -> Result<(), FailureReason> {
    for path in class.hierarchies().iter().map(Path::new) {
        // To take one away can take away others, so they are counted again.
        while mounts::overlays(path, class.as_str())? > count {
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            unmount(path, flags).map_err(|e| FailureReason::file("unmount", path)(e.into()))?;
        }
    }
    Ok(())
}

/// Puts `new` in the place of what is merged at `path`.
fn exchange(class: ExtensionClass, path: &Path, new: Option<&OwnedFd>) -> Result<(), Errno> {
    let old = is_merged(class, path);
    if let Some(new) = new {
        let mut how = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        if old {
            how |= MoveMountFlags::MOVE_MOUNT_BENEATH;
        }
        move_mount(new, "", CWD, path, how)?;
    }
    if old {
        unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

/// Whether an overlay of systemd's is at `path`: it then says itself which device it is.
fn is_merged(class: ExtensionClass, path: &Path) -> bool {
    let note = path.join(format!(".systemd-{}/dev", class.as_str()));
    let (Ok(note), Ok(meta)) = (fs::read_to_string(note), fs::metadata(path)) else {
        return false;
    };
    let device = meta.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    note.trim() == format!("{major}:{minor}")
}

/// Moves this thread to a mount namespace of its own, from which nothing comes back.
#[allow(unsafe_code)]
fn leave() -> bool {
    // SAFETY: file descriptors stay shared; what ends to be shared are the mounts and, of this
    // short-lived thread alone, the working directory.
    let left = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) };
    let every = |how| mount_change("/", how | MountPropagationFlags::REC);
    // Cut off from where we come from; but systemd, which works in a namespace of its own again,
    // has to get its result to us.
    left.and_then(|()| every(MountPropagationFlags::PRIVATE))
        .and_then(|()| every(MountPropagationFlags::SHARED))
        .is_ok()
}
