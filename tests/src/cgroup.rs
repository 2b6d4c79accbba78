//! A control group of its own for each device: two devices cannot reach each other's processes,
//! and all processes of one can be ended at once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::HarnessError;
use crate::error::file;
use crate::wait;

const MOUNT: &str = "/sys/fs/cgroup";

/// The hierarchy of version 2: below `unified` where version 1 is in use as well.
fn hierarchy() -> PathBuf {
    let hybrid = Path::new(MOUNT).join("unified");
    if hybrid.join("cgroup.procs").exists() {
        hybrid
    } else {
        MOUNT.into()
    }
}

/// Makes the group `name`. A process that writes `0` to the file joins it.
pub(crate) fn create(name: &str) -> Result<File, HarnessError> {
    let group = hierarchy().join(name);
    fs::create_dir(&group).map_err(file("make", &group))?;
    let procs = group.join("cgroup.procs");
    let opened = File::options().write(true).open(&procs);
    opened.map_err(file("open", &procs))
}

/// Kills everything in the group `name`.
pub(crate) fn kill(name: &str) {
    // It fails when there is no such group.
    let _ = fs::write(hierarchy().join(name).join("cgroup.kill"), "1");
}

/// The processes in the group `name` and below.
pub(crate) fn processes(name: &str) -> Vec<i32> {
    let mut found = Vec::new();
    let mut groups = vec![hierarchy().join(name)];
    while let Some(group) = groups.pop() {
        let procs = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        found.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()));
        groups.extend(children(&group));
    }
    found
}

/// Removes the group `name`, whose processes were killed, from all hierarchies: systemd-nspawn
/// makes it in more than one.
pub(crate) fn remove(name: &str) {
    let mut hierarchies = children(Path::new(MOUNT));
    hierarchies.push(MOUNT.into());
    for hierarchy in hierarchies {
        let group = hierarchy.join(name);
        // Killed processes take a moment to leave.
        let gone = || Ok(remove_tree(&group).is_ok().then_some(()));
        let _ = wait::until("removal", Duration::from_secs(5), gone, String::new);
    }
}

fn remove_tree(group: &Path) -> io::Result<()> {
    for child in children(group) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
