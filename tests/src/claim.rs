//! What a device takes from the host, under one name, and giving it all back.
//!
//! A claim is a directory below `/run/avocado-testbed` with a locked file in it. The name (`avo`,
//! the process, a number) is that of the network namespace, the cable, the control group and the
//! work directory as well, so every process that knows the name can give everything back: the
//! owner, or, when the lock shows that the owner is dead, the next one who comes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::mount::{UnmountFlags, unmount};

use crate::cleanup::{self, CleanupGuard};
use crate::error::file;
use crate::network::Network;
use crate::{HarnessError, cgroup, host, loops, network};

const CLAIMS: &str = "/run/avocado-testbed";

/// A name that is ours, and everything that goes by it. Dropping it gives everything back.
#[derive(Debug)]
pub struct HostClaim {
    name: String,
    work: PathBuf,
    network: Network,
    // In this order: everything is given back while the lock still says that it is ours.
    _guard: CleanupGuard,
    _lock: File,
}

impl HostClaim {
    /// Takes a name, with a work directory of that name below `workdir`, and a network.
    ///
    /// # Errors
    /// The directories or the network cannot be made.
    pub fn take(workdir: &Path) -> Result<Self, HarnessError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("avo{}-{number}", std::process::id());

        // Before the lock, so that it is still there when the lock is released, however this ends.
        let guard = CleanupGuard::new({
            let name = name.clone();
            move || {
                let _lock = lock_claims();
                give_back(&name);
            }
        })?;
        let _lock = lock_claims()?;
        cleanup::check()?;
        let claim = Path::new(CLAIMS).join(&name);
        // A dead process that had our number: its things are still there.
        give_back(&name);
        fs::create_dir(&claim).map_err(file("make", &claim))?;
        let lock = claim.join("lock");
        let lock = File::create(&lock).map_err(file("make", &lock))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(file("lock", &claim))?;

        remember_loops()?;
        fs::create_dir_all(workdir).map_err(file("make", workdir))?;
        let work = fs::canonicalize(workdir)
            .map_err(file("find", workdir))?
            .join(&name);
        symlink(&work, claim.join("work")).map_err(file("make", &claim))?;
        fs::create_dir(&work).map_err(file("make", &work))?;
        let network = Network::create(&name)?;
        Ok(HostClaim {
            name,
            work,
            network,
            _guard: guard,
            _lock: lock,
        })
    }

    /// The right to make more things that go by this name, until it is dropped. They are given
    /// back even when a signal arrives right now.
    pub(crate) fn lock_claims(&self) -> Result<File, HarnessError> {
        let lock = lock_claims()?;
        cleanup::check()?;
        Ok(lock)
    }

    /// The name of the network namespace, the control group and the work directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The work directory, for this claim alone.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }
}

/// Gives back what dead processes left. Returns their claims' names.
///
/// # Errors
/// The directory of the claims cannot be used.
pub fn reap() -> Result<Vec<String>, HarnessError> {
    let _lock = lock_claims()?;
    let mut reaped = Vec::new();
    for name in names() {
        if !alive(&name) {
            give_back(&name);
            reaped.push(name);
        }
    }
    Ok(reaped)
}

fn names() -> Vec<String> {
    fs::read_dir(CLAIMS)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("avo"))
        .collect()
}

fn alive(name: &str) -> bool {
    let lock = File::open(Path::new(CLAIMS).join(name).join("lock"));
    lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
}

/// The right to make, give back and look at claims, until it is dropped.
fn lock_claims() -> Result<File, HarnessError> {
    fs::create_dir_all(CLAIMS).map_err(file("make", CLAIMS))?;
    let path = Path::new(CLAIMS).join("turn");
    let lock = File::create(&path).map_err(file("make", &path))?;
    loop {
        match flock(&lock, FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map(|()| lock).map_err(file("lock", &path)),
        }
    }
}

/// Gives back everything that goes by `name`. It goes on after failures: whatever cannot be given
/// back now can be at the next try, because the claim itself goes last.
fn give_back(name: &str) {
    let claim = Path::new(CLAIMS).join(name);
    let work = fs::read_link(claim.join("work")).ok();
    cgroup::kill(name);
    cgroup::remove(name);
    if let Some(work) = &work {
        unmount_below(work);
    }
    network::remove(name);
    let _ = fs::remove_dir(Path::new("/run/systemd/nspawn/propagate").join(name));
    if names().iter().all(|other| other == name || !alive(other)) {
        // The last one turns off the light; others may need what looks like too much.
        network::tidy();
        restore_loops();
    }
    if work.as_ref().is_none_or(|work| removed(work)) {
        let _ = fs::remove_dir_all(&claim);
    }
}

/// Notes which loop devices there are, unless an earlier claim did that still exists.
fn remember_loops() -> Result<(), HarnessError> {
    let path = Path::new(CLAIMS).join("loops");
    if path.exists() {
        return Ok(());
    }
    let numbers: Vec<_> = loops::existing().iter().map(u32::to_string).collect();
    fs::write(&path, numbers.join(" ")).map_err(file("write", &path))
}

/// Makes the loop devices those that were noted.
fn restore_loops() {
    let path = Path::new(CLAIMS).join("loops");
    if let Ok(numbers) = fs::read_to_string(&path) {
        let numbers: BTreeSet<u32> = numbers
            .split(' ')
            .filter_map(|number| number.parse().ok())
            .collect();
        if loops::restore(&numbers).is_ok() {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Removes the directory `work`, unless something is still mounted in it.
fn removed(work: &Path) -> bool {
    if host::mounts_below(work).is_empty() {
        match fs::remove_dir_all(work) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    } else {
        false
    }
}

fn unmount_below(work: &Path) {
    // The newest is the last one.
    for mount in host::mounts_below(work).iter().rev() {
        if unmount(mount, UnmountFlags::NOFOLLOW).is_err() {
            let _ = unmount(mount, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
        }
    }
}
