//! Whether steps can run on this host at all.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use avocado_backend::{Emulation, HostBackend, Processor};
use avocado_events::{Cancel, Silent};

use crate::error::BuildError;

/// Runs a step that does nothing, as steps run on this host: in namespaces of its own. `exe` is our own
/// program; tools would be found on `search_path`.
///
/// # Errors
/// Why the host refuses that.
pub fn check_host_steps(exe: &Path, search_path: &OsStr) -> Result<(), BuildError> {
    Ok(backend(exe, search_path).check(&Cancel::new(), &Silent)?)
}

/// How steps on this host start programs for `processor`, which is another one than this machine's: what
/// there is, and works. The arguments are those of [`check_host_steps`].
pub fn emulation_of_host_steps(exe: &Path, search_path: &OsStr, processor: Processor) -> Emulation {
    backend(exe, search_path).emulation(processor)
}

fn backend(exe: &Path, search_path: &OsStr) -> HostBackend {
    // No tool is asked what it is, so nothing is remembered.
    HostBackend::new(exe.to_owned(), search_path.to_owned(), PathBuf::new())
}

/// Whether this user may mount a file system of a disk, without which an older `mkfs.btrfs` fills no var
/// partition ([`MkfsVersion::missing`](crate::MkfsVersion::missing)).
pub fn may_mount() -> bool {
    rustix::process::geteuid().is_root()
}
