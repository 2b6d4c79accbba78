use std::ffi::OsString;
use std::path::{Path, PathBuf};

use avocado_backend::{Tool, ToolError, ToolQuery};

use crate::error::{BuildError, ToolFailure};
use crate::failure_kind::FailureKind;
use crate::step_context::StepContext;
use crate::trees::TreeFeatures;

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
    features: &TreeFeatures,
    compression: Option<&str>,
    root: &Path,
    image: &Path,
    left_out: &[PathBuf],
) -> Result<(), BuildError> {
    let mut tool = Tool::new(MKFS.tool).args(["--quiet", "-U", UUID, "--all-root"]);
    if features.attributes.is_none() {
        tool = tool.args(["-x", "-1"]);
    }
    let epoch = context.epoch.to_string();
    tool = if features.has_other_times {
        // No time after this one. Before 1.9, where there is no other way to say that, each inode
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

/// What mkfs.erofs says, which has no exit codes of its own for it.
fn failure_kind(error: &ToolError) -> Option<FailureKind> {
    error
        .says("Cannot find a valid compressor")
        .then_some(FailureKind::CompressionUnsupported)
}
