use std::path::{Path, PathBuf};

use avocado_sdk::Tool;

use crate::Error;
use crate::steps::Bench;

/// The file system's identifier: fixed, since a random one would be the only difference between
/// two builds of the same tree.
const UUID: &str = "00000000-0000-0000-0000-000000000000";

pub(super) fn write(
    bench: &Bench<'_>,
    compression: Option<&str>,
    root: &Path,
    image: &Path,
    left_out: &[PathBuf],
) -> Result<(), Error> {
    let mut tool = Tool::new("mkfs.erofs").args([
        "--quiet",
        "-T",
        &bench.epoch.to_string(),
        "-U",
        UUID,
        "-x",
        "-1",
        "--all-root",
    ]);
    if let Some(algorithm) = compression {
        tool = tool.arg(format!("-z{algorithm}"));
    }
    for path in left_out {
        tool = tool.arg(format!("--exclude-path={}", path.display()));
    }
    Ok(tool.arg(image).arg(root).run(bench.sink)?)
}
