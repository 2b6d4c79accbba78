use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use avocado_backend::{Tool, ToolError, ToolQuery};
use walkdir::WalkDir;

use crate::error::{At as _, Error, ToolFailure};
use crate::failure_kind::FailureKind;
use crate::step_context::StepContext;

/// The file system's identifier: fixed, since a random one would be the only difference between
/// two builds of the same tree.
const UUID: &str = "00000000-0000-0000-0000-000000000000";

/// Before 1.6 it knows neither this argument nor another way to say its version alone; its package
/// tells it then.
pub(super) const MKFS: ToolQuery = ToolQuery {
    tool: "mkfs.erofs",
    arguments: &["-V"],
};

pub(super) fn write(
    context: &StepContext<'_>,
    compression: Option<&str>,
    root: &Path,
    image: &Path,
    left_out: &[PathBuf],
) -> Result<(), Error> {
    let mut tool = Tool::new(MKFS.tool).args(["--quiet", "-U", UUID, "-x", "-1", "--all-root"]);
    let epoch = context.epoch.to_string();
    tool = if has_other_times(root, context.epoch)? {
        // No time after this one. Only since 1.8 there is an argument for it. Before, each inode
        // then takes 32 bytes more.
        tool.env("SOURCE_DATE_EPOCH", epoch)
    } else {
        tool.args(["-T", &epoch])
    };
    if let Some(algorithm) = compression {
        tool = tool.arg(format!("-z{algorithm}"));
    }
    for path in left_out {
        let mut exclude = OsString::from("--exclude-path=");
        exclude.push(path);
        tool = tool.arg(exclude);
    }
    let written = tool.arg(image).arg(root).run(context.sink);
    Ok(written.map_err(|e| ToolFailure::read_by(e, failure_kind))?)
}

/// Whether a file has another time than that of the file system.
fn has_other_times(root: &Path, epoch: u64) -> Result<bool, Error> {
    for entry in WalkDir::new(root) {
        let entry = entry.map_err(io::Error::from).at("read", root)?;
        let metadata = entry.metadata().map_err(io::Error::from);
        let metadata = metadata.at("look at", entry.path())?;
        if u64::try_from(metadata.mtime()) != Ok(epoch) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What mkfs.erofs says, which has no exit codes of its own for it.
fn failure_kind(error: &ToolError) -> Option<FailureKind> {
    error
        .says("Cannot find a valid compressor")
        .then_some(FailureKind::CompressionUnsupported)
}
