//! The mount namespace of a job.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::{SOURCE_MOUNT, STATE_MOUNT, owners};

/// The host directories that a job sees at the published places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounts {
    /// Appears at [`STATE_MOUNT`].
    pub state: PathBuf,
    /// Appears at [`SOURCE_MOUNT`].
    pub source: PathBuf,
}

/// A namespace could not be entered.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub(crate) struct NamespaceError {
    action: String,
    #[source]
    source: io::Error,
}

fn context<T, E: Into<io::Error>>(
    result: Result<T, E>,
    action: impl FnOnce() -> String,
) -> Result<T, NamespaceError> {
    result.map_err(|e| NamespaceError {
        action: action(),
        source: e.into(),
    })
}

/// Lets the next child of this process, which must have one thread, be the first in a process
/// namespace of its own, with its own mounts. When that child ends, so does everything that it
/// started, whatever that tried.
pub(crate) fn separate() -> Result<(), NamespaceError> {
    let uid = rustix::process::getuid();
    let gid = rustix::process::getgid();
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    if !uid.is_root() {
        flags |= UnshareFlags::NEWUSER;
    }
    context(unshare(flags), || "make a namespace for the step".into())?;
    if !uid.is_root() {
        let map =
            |file: &str, text: String| context(fs::write(file, text), || format!("write {file}"));
        map("/proc/self/setgroups", "deny".into())?;
        map("/proc/self/uid_map", format!("0 {} 1", uid.as_raw()))?;
        map("/proc/self/gid_map", format!("0 {} 1", gid.as_raw()))?;
        // Where the kernel cannot, a file of another owner is an error, and the first one says so.
        let _ = owners::keep();
    }
    Ok(())
}

/// Whether this process may mount block devices: in a user namespace of its own nobody may.
pub fn may_mount() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Puts the given directories at the published paths. Nothing is created or mounted on the host
/// itself.
pub(crate) fn enter(mounts: &Mounts) -> Result<(), NamespaceError> {
    // Without this the mounts below would appear on the host too.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    context(mount_change("/", private), || {
        "keep the step's mounts private".into()
    })?;
    // The processes of this namespace, by their numbers here. Where a container forbids it, the
    // outer ones stay in view, and tools find themselves all the same.
    let _ = mount("proc", "/proc", "proc", MountFlags::empty(), None);
    make_mount_points()?;
    for (from, to) in [(&mounts.state, STATE_MOUNT), (&mounts.source, SOURCE_MOUNT)] {
        context(mount_bind(from, to), || {
            format!("mount {} at {to}", from.display())
        })?;
    }
    Ok(())
}

#[allow(unsafe_code)]
fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: the hazard of unshare is to split file descriptor tables under other threads;
    // neither FILES nor any other thread is in play, only mounts and user ids.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Makes sure that the mount points exist, without a trace on the host: where one is missing,
/// `/opt` is covered by a temporary file system that shows everything that was there.
fn make_mount_points() -> Result<(), NamespaceError> {
    let missing = [STATE_MOUNT, SOURCE_MOUNT]
        .iter()
        .any(|p| !Path::new(p).is_dir());
    if !missing {
        return Ok(());
    }
    let opt = Path::new("/opt");
    let before = context(fs::File::open(opt), || "open /opt".into())?;
    let entries: Vec<_> = context(fs::read_dir(opt), || "read /opt".into())?
        .filter_map(Result::ok)
        .collect();
    context(
        mount(
            "tmpfs",
            opt,
            "tmpfs",
            MountFlags::empty(),
            Some(c"mode=0755"),
        ),
        || "cover /opt".into(),
    )?;
    for entry in entries {
        let path = entry.path();
        let old =
            PathBuf::from(format!("/proc/self/fd/{}", before.as_raw_fd())).join(entry.file_name());
        let kind = context(entry.file_type(), || format!("look at {}", path.display()))?;
        let shown = if kind.is_symlink() {
            fs::read_link(&old).and_then(|to| std::os::unix::fs::symlink(to, &path))
        } else {
            let point = if kind.is_dir() {
                fs::create_dir(&path)
            } else {
                fs::File::create(&path).map(drop)
            };
            point.and_then(|()| Ok(mount_bind_recursive(&old, &path)?))
        };
        context(shown, || format!("keep {} visible", path.display()))?;
    }
    for point in [STATE_MOUNT, SOURCE_MOUNT] {
        context(fs::create_dir_all(point), || format!("create {point}"))?;
    }
    Ok(())
}
