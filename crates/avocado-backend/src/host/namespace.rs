//! The mount namespace of a job.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::FileType;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};
use rustix::thread::UnshareFlags;

use super::mounts::{self, Restriction};
use super::{devices, owners};
use crate::job_view::JobView;
use crate::{Mount, MountAccess};

/// Below it a job's mount points need not exist on the host.
pub(crate) const COVERED: &str = "/opt";

/// Where every job has a directory of its own: temporary files, and what services of the host
/// listen at, which would do for a hook what the hook itself cannot.
pub(crate) const PRIVATE: [(&str, &CStr); 3] = [
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

pub(crate) fn context<T, E: Into<io::Error>>(
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
/// started, whatever that tried. Root gets a user namespace where there is a `mapper`, the program of
/// [`map_users_of_parent`]: all users are in it, and the privileges of root are not those of the host.
pub(crate) fn separate(mapper: Option<Command>) -> Result<(), NamespaceError> {
    let uid = rustix::process::getuid();
    let gid = rustix::process::getgid();
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    if !uid.is_root() {
        flags |= UnshareFlags::NEWUSER;
    } else if let Some(mut mapper) = mapper {
        // Only who stays outside can give it more users than one.
        let what = || "give the step's user namespace its users".to_owned();
        mapper.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut mapper = context(mapper.spawn(), what)?;
        let unshared = unshare(flags | UnshareFlags::NEWUSER);
        if unshared.is_err() {
            let _ = mapper.kill();
        }
        // It waits for this.
        drop(mapper.stdin.take());
        let ended = context(mapper.wait(), what)?;
        context(unshared, || "make a user namespace for the step".into())?;
        let refused = || io::Error::from(io::ErrorKind::PermissionDenied);
        return context(ended.success().then_some(()).ok_or_else(refused), what);
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

/// Gives the user namespace of the parent process all users that there are here, each as it is, when
/// the parent closes this one's standard input.
pub(crate) fn map_users_of_parent() -> ExitCode {
    let map = || -> io::Result<()> {
        io::copy(&mut io::stdin(), &mut io::sink())?;
        let parent = rustix::process::getppid().ok_or(io::ErrorKind::NotFound)?;
        for name in ["uid_map", "gid_map"] {
            let own = fs::read_to_string(format!("/proc/self/{name}"))?;
            let place = format!("/proc/{}/{name}", parent.as_raw_nonzero());
            fs::write(place, identity_map(&own))?;
        }
        Ok(())
    };
    match map() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The map of a user namespace below one with this map that has the same users.
fn identity_map(map: &str) -> String {
    let lines = map.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (first, _, count) = (words.next()?, words.next()?, words.next()?);
        Some(format!("{first} {first} {count}\n"))
    });
    lines.collect()
}

/// Where root is not root on the host, in the container of an engine without privileges, files stay
/// those of the user who started it.
pub(crate) fn keep_owners() {
    if !is_privileged() {
        let _ = owners::keep();
    }
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
    if let Some(emulator) = &view.emulator {
        // That the kernel takes it was tried.
        context(emulator.register(), || {
            "tell the kernel of an emulator of programs for the step".into()
        })?;
    }
    // Before anything is made read-only, and before anything is covered.
    let writable = copies(&view.mounts, MountAccess::Write)?;
    context(
        mounts::restrict(Path::new("/"), Restriction::Writing),
        || "make the host read-only for the step".into(),
    )?;
    let readable = copies(&view.mounts, MountAccess::Read)?;
    let shown = shown(view)?;
    let again = view.hidden_again();
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
    for (_, place) in again.iter().filter(|(_, place)| place.is_dir()) {
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
    cover_and_show(opt)?;
    for point in points() {
        context(fs::create_dir_all(point), || {
            format!("create {}", point.display())
        })?;
    }
    Ok(())
}

/// Covers a directory by a temporary file system that shows everything that was there, and takes more.
pub(crate) fn cover_and_show(directory: &Path) -> Result<(), NamespaceError> {
    let before = context(fs::File::open(directory), || {
        format!("open {}", directory.display())
    })?;
    let entries: Vec<_> = context(fs::read_dir(directory), || {
        format!("read {}", directory.display())
    })?
    .filter_map(Result::ok)
    .collect();
    context(
        mount(
            "tmpfs",
            directory,
            "tmpfs",
            MountFlags::empty(),
            Some(c"mode=0755"),
        ),
        || format!("cover {}", directory.display()),
    )?;
    for entry in entries {
        let path = entry.path();
        let old = path_of(&before).join(entry.file_name());
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
    Ok(())
}

/// A path that leads to what is open, also where something covers it.
pub(crate) fn path_of(directory: &fs::File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
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

    #[test]
    fn a_user_namespace_has_the_users_of_the_one_above() {
        let map = "         0     100000      65536\n  65536  200000 1\n";
        assert_eq!(identity_map(map), "0 0 65536\n65536 65536 1\n");
    }
}
