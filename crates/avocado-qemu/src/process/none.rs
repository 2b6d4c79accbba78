//! Hosts on which machines are not run yet.

use std::ffi::OsString;
use std::path::Path;

use super::handle::Process;
use super::identity::ProcessIdentity;
use super::usage::ProcessUsage;
use crate::error::QemuError;

pub(super) fn start_time(_pid: u32) -> Option<String> {
    None
}

pub(super) fn command_line(_pid: u32) -> Option<Vec<u8>> {
    None
}

pub(crate) fn usage(_pid: u32) -> Option<ProcessUsage> {
    None
}

pub(crate) fn spawn(
    _program: &Path,
    _arguments: &[OsString],
    _log: &Path,
    _directory: Option<&Path>,
) -> Result<Process, QemuError> {
    Err(QemuError::Unsupported {
        what: "running a machine",
    })
}

pub(crate) fn adopt(_identity: &ProcessIdentity) -> Option<Process> {
    None
}
