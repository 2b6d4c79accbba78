//! The devices of a job: those that every program takes for granted. A disk in `/dev` would be the
//! whole host, to read and to write.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::mounts;

const PLACE: &str = "/dev";
const KEPT: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Covers the devices of the host with these.
pub(crate) fn cover() -> io::Result<()> {
    let at = |name: &str| Path::new(PLACE).join(name);
    // Whatever a container has of them.
    let copies = KEPT
        .iter()
        .filter_map(|name| Some((name, mounts::copy_of(&at(name)).ok()?)));
    let copies: Vec<_> = copies.collect();
    mounts::cover(Path::new(PLACE), c"mode=0755")?;
    for (name, copy) in copies {
        fs::File::create(at(name))?;
        mounts::attach(&copy, &at(name))?;
    }
    for (name, target) in LINKS {
        symlink(target, at(name))?;
    }
    fs::create_dir(at("shm"))?;
    fs::set_permissions(at("shm"), fs::Permissions::from_mode(0o1777))?;
    fs::create_dir(at("pts"))?;
    // Terminals of the job's own, for hooks that want one. Steps need none.
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let options = c"newinstance,ptmxmode=0666,mode=0620";
    let _ = mount("devpts", at("pts"), "devpts", flags, Some(options));
    Ok(())
}

/// Shows the devices of the host again.
pub(crate) fn uncover() -> io::Result<()> {
    Ok(unmount(PLACE, UnmountFlags::DETACH)?)
}
