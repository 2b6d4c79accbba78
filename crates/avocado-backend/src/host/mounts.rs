//! Single mounts of a job's namespace.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, StatVfsMountFlags};
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, mount, mount_remount, move_mount, open_tree,
};

/// What a mount no longer allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restriction {
    /// Changes of files, directories and attributes.
    Writing,
    /// Devices, and the privileges that programs have by their mode: a tree of packages may hold
    /// both, and nothing of it is to be used on this host.
    Privileges,
}

/// What is at `path` with all that is mounted below it, to be put elsewhere.
pub(super) fn copy_of(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(CWD, path, flags)?)
}

/// Mounts such a copy at `point`.
pub(super) fn attach(copy: &OwnedFd, point: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    Ok(move_mount(copy, "", CWD, point, flags)?)
}

/// Makes an empty directory of `point`, which a job may fill: it ends with the job.
pub(super) fn cover(point: &Path, options: &'static CStr) -> io::Result<()> {
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    Ok(mount("tmpfs", point, "tmpfs", flags, Some(options))?)
}

/// Restricts what is mounted at `point` and everything below it.
pub(super) fn restrict(point: &Path, restriction: Restriction) -> io::Result<()> {
    match set_attributes(point, restriction) {
        // Before Linux 5.12, and where a container knows no call that is so new.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            remount_each(point, restriction)
        }
        other => other,
    }
}

/// As the kernel declares it.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

#[allow(unsafe_code)]
fn set_attributes(point: &Path, restriction: Restriction) -> io::Result<()> {
    const READ_ONLY: u64 = 1;
    const NO_SETUID: u64 = 2;
    const NO_DEVICES: u64 = 4;
    let attributes = MountAttributes {
        set: match restriction {
            Restriction::Writing => READ_ONLY,
            Restriction::Privileges => NO_SETUID | NO_DEVICES,
        },
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let place = open_tree(CWD, point, flags)?;
    // SAFETY: the system reads a C string and a structure of the given size; both live until it
    // returns.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            place.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The same, one mount after the other.
pub(super) fn remount_each(point: &Path, restriction: Restriction) -> io::Result<()> {
    let added = match restriction {
        Restriction::Writing => MountFlags::RDONLY,
        Restriction::Privileges => MountFlags::NOSUID | MountFlags::NODEV,
    };
    let text = fs::read("/proc/thread-self/mountinfo")?;
    for path in text.split(|b| *b == b'\n').filter_map(mount_point) {
        if !path.starts_with(point) {
            continue;
        }
        let remounted = flags_of(&path)
            .and_then(|flags| Ok(mount_remount(&path, MountFlags::BIND | flags | added, "")?));
        match remounted {
            // Beneath another mount, or where this user cannot go: no job gets there either.
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::EINVAL | libc::ENOENT | libc::EACCES)
                ) && path != point => {}
            other => other?,
        }
    }
    Ok(())
}

/// The places below `directory`, and itself, where something is mounted: each behind those that it is in.
pub(crate) fn mounted_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let text = fs::read("/proc/thread-self/mountinfo")?;
    let points = text.split(|b| *b == b'\n').filter_map(mount_point);
    Ok(points.filter(|path| path.starts_with(directory)).collect())
}

/// A mount that was made elsewhere may lose none of these.
fn flags_of(point: &Path) -> io::Result<MountFlags> {
    let found = rustix::fs::statvfs(point)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let kept = pairs.into_iter().filter(|(stat, _)| found.contains(*stat));
    Ok(kept.fold(MountFlags::empty(), |all, (_, flag)| all | flag))
}

/// The fifth field of a line of `mountinfo`, in which `\040` is a space.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|b| *b == b' ').nth(4)?;
    let mut path = Vec::new();
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(octal.unwrap_or(*first));
        rest = match octal {
            Some(_) => after.get(3..).unwrap_or_default(),
            None => after,
        };
    }
    Some(std::ffi::OsString::from_vec(path).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_spaces() {
        let line = b"36 35 98:0 /a /mnt/a\\040b\\134c rw,noatime - ext3 /dev/root rw";
        assert_eq!(mount_point(line).unwrap(), Path::new("/mnt/a b\\c"));
        assert_eq!(mount_point(b""), None);
    }
}
