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

/// mksquashfs 4.7 to 4.7.4 can write wrong bytes for sparse files. `identity` is the first line of
/// what it says of itself, or its package.
pub(super) fn refuse_corrupting_version(identity: &str) -> Result<(), BuildError> {
    match identity.split_whitespace().find(|word| is_corrupting(word)) {
        Some(version) => Err(BuildError::Invalid(format!(
            "mksquashfs {version} may corrupt sparse files; use 4.6.1, or 4.7.5 and later"
        ))),
        None => Ok(()),
    }
}

fn is_corrupting(version: &str) -> bool {
    // A package may have an epoch.
    let version = version.rsplit(':').next().unwrap_or(version);
    // And has a revision of its own, which is no patch level.
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.');
    let version = &version[..end.unwrap_or(version.len())];
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok);
    matches!((next(), next(), next()), (Some(4), Some(7), patch) if patch.unwrap_or(0) < 5)
}

#[cfg(test)]
mod tests {
    #[test]
    fn corrupting_versions_are_known() {
        for bad in [
            "4.7",
            "4.7.0",
            "4.7.4",
            "4.7-6",
            "1:4.7-6",
            "1:4.7+ds-6",
            "4.7.4-9",
        ] {
            assert!(super::is_corrupting(bad), "{bad}");
        }
        for good in [
            "4.5.1",
            "4.6.1",
            "4.7.5",
            "4.8",
            "5.0",
            "1:4.7.5-1",
            "4.6.1-7",
            "4-7",
            "",
            "x",
        ] {
            assert!(!super::is_corrupting(good), "{good}");
        }
        for (identity, version) in [
            ("mksquashfs version 4.6.1 (2023/03/25)", None),
            ("mksquashfs version 4.7.2 (2025/09/03)", Some("4.7.2")),
            ("squashfs-tools 1:4.6.1-1 amd64", None),
            ("squashfs-tools 1:4.7-1 amd64", Some("1:4.7-1")),
            ("squashfs-tools 1:4.7-6 amd64", Some("1:4.7-6")),
            ("mksquashfs 0f3a", None),
        ] {
            let refused = super::refuse_corrupting_version(identity).err();
            let begin = version.map(|version| format!("mksquashfs {version} may corrupt "));
            let said = refused.map(|error| error.to_string());
            assert_eq!(said.is_some(), begin.is_some(), "{identity}");
            let is_named = begin
                .zip(said)
                .is_none_or(|(begin, said)| said.starts_with(&begin));
            assert!(is_named, "{identity}");
        }
    }
}
