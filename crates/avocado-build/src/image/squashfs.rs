use std::path::{Path, PathBuf};

use avocado_sdk::Tool;

use crate::Error;
use crate::steps::Bench;

pub(super) fn write(
    bench: &Bench<'_>,
    root: &Path,
    image: &Path,
    left_out: &[PathBuf],
) -> Result<(), Error> {
    refuse_corrupting_version(bench)?;
    let epoch = bench.epoch.to_string();
    let mut tool = Tool::new("mksquashfs")
        .arg(root)
        .arg(image)
        .args([
            "-noappend",
            "-no-xattrs",
            "-all-root",
            "-reproducible",
            "-no-progress",
            "-quiet",
        ])
        .args(["-mkfs-time", &epoch, "-all-time", &epoch]);
    if !left_out.is_empty() {
        tool = tool.arg("-e").args(left_out);
    }
    Ok(tool.run(bench.sink)?)
}

/// mksquashfs 4.7 to 4.7.4 can write wrong bytes for sparse files.
fn refuse_corrupting_version(bench: &Bench<'_>) -> Result<(), Error> {
    let text = Tool::new("mksquashfs").arg("-version").read(bench.sink)?;
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    if is_corrupting(version) {
        return Err(Error::Invalid(format!(
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
