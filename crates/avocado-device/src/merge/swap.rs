//! A refresh that nobody sees half done.
//!
//! systemd takes the old overlay away and then puts the new one in its place; whoever opens a file
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
use super::release::Class;
use crate::{Reason, tool};

/// What happened.
#[derive(Debug)]
pub(crate) enum Swapped {
    /// The new overlays are in place.
    Done(tool::Ended),
    /// This system cannot do it like that; nothing has changed.
    Unable,
}

/// The overlays that came of a refresh, by hierarchy; none where nothing is merged.
type Overlays = Vec<Option<OwnedFd>>;

/// Runs `refresh`, which makes systemd merge anew, and shows only what comes of it.
pub(crate) fn refresh(
    class: Class,
    refresh: impl FnOnce() -> Result<tool::Ended, Reason> + Send,
) -> Result<Swapped, Reason> {
    let hierarchies = class.hierarchies();
    for path in hierarchies {
        let path = Path::new(path);
        // Somebody who was killed had put the new one beneath the old one already. (To take one
        // away can take away others, so they are counted again.)
        while mounts::overlays(path, class.as_str())? > 1 {
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            unmount(path, flags).map_err(|e| Reason::file("unmount", path)(e.into()))?;
        }
    }
    let apart = || -> Result<Option<(tool::Ended, Overlays)>, Reason> {
        if !leave() {
            return Ok(None);
        }
        let ended = refresh()?;
        let take = |path: &&str| match is_merged(class, Path::new(path)) {
            true => open_tree(
                CWD,
                *path,
                OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_RECURSIVE,
            )
            .map(Some),
            false => Ok(None),
        };
        let taken: Result<Vec<_>, Errno> = hierarchies.iter().map(take).collect();
        Ok(taken.ok().map(|taken| (ended, taken)))
    };
    // The namespace ends with the thread.
    let apart = std::thread::scope(|scope| scope.spawn(apart).join());
    let Some((ended, taken)) = apart.unwrap_or(Ok(None))? else {
        return Ok(Swapped::Unable);
    };
    for (at, (path, new)) in hierarchies.iter().zip(&taken).enumerate() {
        let path = Path::new(path);
        match exchange(class, path, new.as_ref()) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) if at == 0 => {
                return Ok(Swapped::Unable);
            }
            Err(e) => return Err(Reason::file("mount over", path)(e.into())),
        }
    }
    Ok(Swapped::Done(ended))
}

/// Puts `new` in the place of what is merged at `path`.
fn exchange(class: Class, path: &Path, new: Option<&OwnedFd>) -> Result<(), Errno> {
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
fn is_merged(class: Class, path: &Path) -> bool {
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
