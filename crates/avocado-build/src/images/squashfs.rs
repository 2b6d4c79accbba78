use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use avocado_backend::{Tool, ToolQuery};

use crate::error::BuildError;
use crate::step_context::StepContext;
use crate::trees::TreeFeatures;

pub(super) const MKSQUASHFS: ToolQuery = ToolQuery {
    tool: "mksquashfs",
    arguments: &["-version"],
};

pub(super) fn write(
    context: &StepContext<'_>,
    features: &TreeFeatures,
    root: &Path,
    image: &Path,
    left_out: &[PathBuf],
) -> Result<(), BuildError> {
    refuse_corrupting_version(context)?;
    let epoch = context.epoch.to_string();
    let mut tool = Tool::new(MKSQUASHFS.tool)
        .arg(root)
        .arg(image)
        .args([
            "-noappend",
            if features.attributes.is_none() {
                "-no-xattrs"
            } else {
                "-xattrs"
            },
            // It looks for holes where a file has fewer blocks than bytes, which hangs on who
            // copied it and on the build host's file system.
            "-no-sparse",
            "-all-root",
            "-reproducible",
            "-no-progress",
            "-quiet",
        ])
        // Those of the files are theirs.
        .args(["-mkfs-time", &epoch]);
    if !left_out.is_empty() {
        // Without this it takes what it is given for inodes, and leaves out every hard link of them.
        tool = tool.arg("-wildcards").arg("-e");
        tool = tool.args(left_out.iter().map(|path| pattern(path)));
    }
    Ok(tool.run(context.sink)?)
}

/// The pattern that matches this path alone.
fn pattern(path: &Path) -> OsString {
    let mut pattern = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_punctuation() && *byte != b'/' {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    OsString::from_vec(pattern)
}

/// mksquashfs 4.7 to 4.7.4 can write wrong bytes for sparse files.
fn refuse_corrupting_version(context: &StepContext<'_>) -> Result<(), BuildError> {
    let text = Tool::new(MKSQUASHFS.tool)
        .args(MKSQUASHFS.arguments)
        .read(context.sink)?;
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    if is_corrupting(version) {
        return Err(BuildError::Invalid(format!(
            "mksquashfs {version} may corrupt sparse files; use 4.6.1, or 4.7.5 and later"
        )));
    }
    Ok(())
}

fn is_corrupting(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok);
    matches!((next(), next(), next()), (Some(4), Some(7), patch) if patch.unwrap_or(0) < 5)
}

#[cfg(test)]
mod tests {
    #[test]
    fn corrupting_versions_are_known() {
        for bad in ["4.7", "4.7.0", "4.7.4"] {
            assert!(super::is_corrupting(bad), "{bad}");
        }
        for good in ["4.5.1", "4.6.1", "4.7.5", "4.8", "5.0", "", "x"] {
            assert!(!super::is_corrupting(good), "{good}");
        }
    }
}
