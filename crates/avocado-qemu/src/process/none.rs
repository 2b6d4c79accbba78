//! Hosts on which machines are not run yet.

use std::ffi::OsString;
use std::path::Path;

use super::{Identity, Process, Usage};
use crate::Error;

pub(super) fn started(_pid: u32) -> Option<String> {
    None
}

pub(super) fn command_line(_pid: u32) -> Option<Vec<u8>> {
    None
}

pub(super) fn usage(_pid: u32) -> Option<Usage> {
    None
}

impl Process {
    pub(crate) fn spawn(
        _program: &Path,
        _arguments: &[OsString],
        _log: &Path,
        _directory: Option<&Path>,
    ) -> Result<Process, Error> {
        Err(Error::Unsupported {
            what: "running a machine",
        })
    }

    pub(crate) fn adopt(_identity: &Identity) -> Option<Process> {
        None
    }
}
