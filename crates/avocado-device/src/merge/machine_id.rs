//! The machine's id while `/etc` is exchanged.
//!
//! Where `/etc` cannot be written at boot, systemd mounts an id over `/etc/machine-id`; once an
//! overlay takes writes, it puts that into the file and takes the mount away. With an overlay whose
//! changes are lost the id would go with the next one. So a mount like the first keeps it.

use std::fs;
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, mount_bind, mount_remount};

use crate::error::FailureReason;
use crate::paths::DevicePaths;
use crate::store::files;

const LENGTH: usize = 32;

/// The id of this machine as this thread sees it.
pub(crate) fn read(paths: &DevicePaths) -> Option<String> {
    let text = fs::read_to_string(&paths.machine_id).ok()?;
    let id = text.trim();
    let right = id.len() == LENGTH && id.bytes().all(|b| b.is_ascii_hexdigit());
    right.then(|| id.to_owned())
}

/// Lets this thread, and who shares its mounts, see `id` again where it is lost.
pub(crate) fn keep(paths: &DevicePaths, id: Option<&str>) -> Result<(), FailureReason> {
    let Some(id) = id.filter(|id| read(paths).as_deref() != Some(*id)) else {
        return Ok(());
    };
    let copy = paths.run.join("machine-id");
    files::create_dir(&paths.run)?;
    if fs::read_to_string(&copy).ok().as_deref() != Some(&format!("{id}\n")) {
        files::write(&copy, format!("{id}\n").as_bytes())?;
    }
    show(&copy, &paths.machine_id)
        .map_err(|e| FailureReason::file("mount over", &paths.machine_id)(e))
}

fn show(copy: &Path, place: &Path) -> io::Result<()> {
    mount_bind(copy, place)?;
    let how = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    Ok(mount_remount(place, how, "")?)
}
