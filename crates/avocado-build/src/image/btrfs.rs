//! The var partition: a btrfs with the published subvolume `lib/avocado`.

use std::fs;
use std::path::Path;

use avocado_sdk::Tool;
use walkdir::WalkDir;

use crate::Error;
use crate::error::At as _;
use crate::steps::Bench;
use crate::tree::{self, Modes};

/// The subvolume that holds images and runtimes.
const SUBVOLUME: &str = "lib/avocado";

/// Writes the tree `root` to `image`.
pub(crate) fn write(bench: &Bench<'_>, root: &Path, image: &Path) -> Result<(), Error> {
    tree::clear(image)?;
    let version = Tool::new("mkfs.btrfs").arg("--version").read(bench.sink)?;
    if makes_subvolumes(&version) {
        let tool = Tool::new("mkfs.btrfs")
            .args(["--quiet", "--force", "--rootdir"])
            .arg(root);
        let tool = tool.args(["--subvol", &format!("rw:{SUBVOLUME}")]);
        return Ok(tool.arg(image).run(bench.sink)?);
    }
    if !avocado_sdk::may_mount() {
        return Err(Error::Invalid(
            "only root can make the var image with btrfs-progs before 6.12".into(),
        ));
    }
    write_mounted(bench, root, image)
}

/// Since 6.12 mkfs.btrfs makes subvolumes from directories.
fn makes_subvolumes(version: &str) -> bool {
    let number = version.split_once("-progs v").map_or("", |(_, rest)| rest);
    let mut parts = number
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let mut next = || parts.next().and_then(Result::ok).unwrap_or(0);
    (next(), next()) >= (6, 12)
}

/// For btrfs-progs before 6.12, which cannot make subvolumes from a directory. The mount is in
/// the step's own namespace, so it ends with the step, however that ends.
fn write_mounted(bench: &Bench<'_>, root: &Path, image: &Path) -> Result<(), Error> {
    let file = fs::File::create(image).at("create", image)?;
    file.set_len(size_for(root)?).at("enlarge", image)?;
    drop(file);
    Tool::new("mkfs.btrfs")
        .args(["--quiet", "--force"])
        .arg(image)
        .run(bench.sink)?;
    // Beside the image, so that two runtimes never share one.
    let point = image.with_extension("mount");
    tree::fresh(&point)?;
    Tool::new("mount")
        .args(["-t", "btrfs", "-o", "loop,nodev,nosuid"])
        .arg(image)
        .arg(&point)
        .run(bench.sink)?;
    let filled = fill(bench, root, &point);
    let unmounted = Tool::new("umount").arg(&point).run(bench.sink);
    filled?;
    unmounted?;
    tree::clear(&point)
}

fn fill(bench: &Bench<'_>, root: &Path, point: &Path) -> Result<(), Error> {
    let subvolume = point.join(SUBVOLUME);
    if let Some(parent) = subvolume.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    Tool::new("btrfs")
        .args(["subvolume", "create"])
        .arg(&subvolume)
        .run(bench.sink)?;
    tree::copy(root, point, Modes::Keep)
}

/// Room for the content, for the file system's own structures, and to start working with.
fn size_for(root: &Path) -> Result<u64, Error> {
    let mut content = 0;
    for entry in WalkDir::new(root) {
        let entry = entry.map_err(std::io::Error::from).at("read", root)?;
        content += entry.metadata().map_or(0, |m| m.len());
    }
    const MIB: u64 = 1 << 20;
    Ok((content + content / 4 + 256 * MIB).next_multiple_of(MIB))
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_with_subvolumes_are_known() {
        for (version, expected) in [
            ("mkfs.btrfs, part of btrfs-progs v6.2", false),
            ("mkfs.btrfs, part of btrfs-progs v6.11.1\n", false),
            ("mkfs.btrfs, part of btrfs-progs v6.12", true),
            ("mkfs.btrfs, part of btrfs-progs v6.14-1\n", true),
            ("mkfs.btrfs, part of btrfs-progs v7.0", true),
            ("", false),
        ] {
            assert_eq!(super::makes_subvolumes(version), expected, "{version}");
        }
    }
}
