//! The mount namespace of a job.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};
use rustix::thread::UnshareFlags;

use super::mounts::{self, Restriction};
use super::{devices, owners};
use crate::protocol::JobView;
use crate::{Mount, MountAccess};

/// Below it a job's mount points need not exist on the host.
const COVERED: &str = "/opt";

/// Where every job has a directory of its own: temporary files, and what services of the host
/// listen at, which would do for a hook what the hook itself cannot.
const PRIVATE: [(&str, &CStr); 3] = [
    ("/tmp", c"mode=1777"),
    ("/var/tmp", c"mode=1777"),
    ("/run", c"mode=0755"),
];

/// A namespace could not be entered.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub(crate) struct NamespaceError {
    action: String,
    #[source]
    source: io::Error,
}

impl NamespaceError {
    /// Whether the host lets this user do none of it, rather than that something is missing.
    pub(crate) fn is_refusal(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
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

/// Whether this process is root, and not only in a user namespace, in which block devices can
/// neither be mounted nor opened.
pub(super) fn is_privileged() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map");
    rustix::process::getuid().is_root() && map.is_ok_and(|map| is_identity_map(&map))
}

/// Whether these lines of `uid_map` say that every user is the same on both sides.
fn is_identity_map(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Makes this namespace what the job is to see of the host: everything, but for what is hidden,
/// and nothing that it could change, but for its mounts that are for that and for directories of
/// its own that end with it. On the host itself nothing is created or mounted.
pub(crate) fn enter(view: &JobView) -> Result<(), NamespaceError> {
    if !view.network {
        // An empty one: not even its loopback device is up.
        context(unshare(UnshareFlags::NEWNET), || {
            "keep the network from the step".into()
        })?;
    }
    // Without this the mounts below would appear on the host too.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    context(mount_change("/", private), || {
        "keep the step's mounts private".into()
    })?;
    // The processes of this namespace, by their numbers here. Where a container forbids it, the
    // outer ones stay in view, and tools find themselves all the same.
    let _ = mount("proc", "/proc", "proc", MountFlags::empty(), None);
    // Before anything is made read-only, and before anything is covered.
    let writable = copies(&view.mounts, MountAccess::Write)?;
    context(
        mounts::restrict(Path::new("/"), Restriction::Writing),
        || "make the host read-only for the step".into(),
    )?;
    let readable = copies(&view.mounts, MountAccess::Read)?;
    let shown = shown(view)?;
    let again = hidden_again(view);
    let covered = cover(view)?;
    context(devices::cover(), || {
        "give the step devices of its own".into()
    })?;
    make_mount_points(&view.mounts)?;
    for (path, place, copy) in &shown {
        // Where nothing was covered it is still there.
        let is_covered = |by: &PathBuf| path.starts_with(by) || place.starts_with(by);
        if covered.iter().any(is_covered) {
            attach(copy, path)?;
        }
    }
    for (mount, copy) in &readable {
        attach(copy, &mount.target)?;
    }
    for (mount, copy) in &writable {
        attach(copy, &mount.target)?;
        context(
            mounts::restrict(&mount.target, Restriction::Privileges),
            || format!("restrict {}", mount.target.display()),
        )?;
    }
    for place in again.iter().filter(|place| place.is_dir()) {
        context(mounts::cover(place, c"mode=0700"), || {
            format!("hide {}", place.display())
        })?;
    }
    Ok(())
}

/// The mounts of this access, each as it is on the host.
fn copies(mounts: &[Mount], access: MountAccess) -> Result<Vec<(&Mount, OwnedFd)>, NamespaceError> {
    let wanted = mounts.iter().filter(|m| m.access == access);
    let copies = wanted.map(|mount| {
        let copy = context(mounts::copy_of(&mount.source), || {
            format!("mount {}", mount.source.display())
        })?;
        Ok((mount, copy))
    });
    copies.collect()
}

/// What is to be seen again after the covering, where it is there at all.
fn shown(view: &JobView) -> Result<Vec<(PathBuf, PathBuf, OwnedFd)>, NamespaceError> {
    // Usually a link to a file below /run.
    let resolver = fs::canonicalize("/etc/resolv.conf").ok();
    let paths = view.visible.iter().cloned().chain(resolver);
    let mut copies = Vec::new();
    for path in paths.filter(|path| path.exists()) {
        // By its real path: on the way there may be a link that is covered too.
        let place = context(fs::canonicalize(&path), || {
            format!("find {}", path.display())
        })?;
        let copy = context(mounts::copy_of(&place), || {
            format!("keep {}", path.display())
        })?;
        copies.push((path, place, copy));
    }
    Ok(copies)
}

/// Covers what no job sees, and what this one does not.
fn cover(view: &JobView) -> Result<Vec<PathBuf>, NamespaceError> {
    let own = view
        .hidden
        .iter()
        .map(|path| (path.as_path(), c"mode=0700"));
    let of_all = PRIVATE.iter().map(|(path, mode)| (Path::new(path), *mode));
    let mut covered = Vec::new();
    for (path, mode) in of_all.chain(own) {
        // The root directory as a home is that of a system user, who has nothing of his own there.
        let place = fs::canonicalize(path).unwrap_or_default();
        if !place.is_dir() || place == Path::new("/") {
            continue;
        }
        context(mounts::cover(&place, mode), || {
            format!("hide {}", path.display())
        })?;
        covered.extend([path.to_owned(), place]);
    }
    Ok(covered)
}

/// Where something that is hidden would come into view again, as part of something else.
fn hidden_again(view: &JobView) -> Vec<PathBuf> {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let whole = view.visible.iter().map(|path| (path, path));
    let mounted = view
        .mounts
        .iter()
        .map(|mount| (&mount.source, &mount.target));
    let mut places = Vec::new();
    for (source, target) in mounted.chain(whole) {
        for hidden in &view.hidden {
            match real(hidden).strip_prefix(real(source)) {
                Ok(below) if !below.as_os_str().is_empty() => places.push(target.join(below)),
                _ => {}
            }
        }
    }
    places
}

/// Mounts the copy at `point`, which is created where it lies in something that was covered.
fn attach(copy: &OwnedFd, point: &Path) -> Result<(), NamespaceError> {
    let is_file = rustix::fs::fstat(copy)
        .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) != FileType::Directory);
    let create = || -> io::Result<()> {
        if point.exists() {
            return Ok(());
        }
        if !is_file {
            return fs::create_dir_all(point);
        }
        if let Some(parent) = point.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::create(point).map(drop)
    };
    let attached = create().and_then(|()| mounts::attach(copy, point));
    context(attached, || format!("mount {}", point.display()))
}

#[allow(unsafe_code)]
pub(super) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: the hazard of unshare is to split file descriptor tables under other threads;
    // neither FILES nor any other thread is in play, only mounts and user ids.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Makes sure that the mount points below `/opt` exist, without a trace on the host: where one is
/// missing, `/opt` is covered by a temporary file system that shows everything that was there.
fn make_mount_points(mounts: &[Mount]) -> Result<(), NamespaceError> {
    let opt = Path::new(COVERED);
    let points = || {
        mounts
            .iter()
            .map(|m| &m.target)
            .filter(|p| p.starts_with(opt))
    };
    if points().all(|point| point.is_dir()) {
        return Ok(());
    }
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
    for point in points() {
        context(fs::create_dir_all(point), || {
            format!("create {}", point.display())
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_of_a_user_namespace_is_not_privileged() {
        for (map, expected) in [
            ("         0          0 4294967295\n", true),
            ("         0       1000          1\n", false),
            ("0 100000 65536\n", false),
            ("0 0 1000\n1000 100000 64536\n", false),
            ("", false),
        ] {
            assert_eq!(is_identity_map(map), expected, "{map}");
        }
    }
}
