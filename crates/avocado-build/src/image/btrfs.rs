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
    let help = Tool::new("mkfs.btrfs").arg("--help").read(bench.sink)?;
    if help.contains("--subvol") {
        let tool = Tool::new("mkfs.btrfs")
            .args(["--quiet", "--force", "--rootdir"])
            .arg(root);
        let tool = tool.args(["--subvol", &format!("rw:{SUBVOLUME}")]);
        return Ok(tool.arg(image).run(bench.sink)?);
    }
    write_mounted(bench, root, image)
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
    let point = bench.layout.work("var-mount");
    tree::fresh(&point)?;
    Tool::new("mount")
        .args(["-t", "btrfs", "-o", "loop,nodev,nosuid"])
        .arg(image)
        .arg(&point)
        .run(bench.sink)?;
    let filled = fill(bench, root, &point);
    let unmounted = Tool::new("umount").arg(&point).run(bench.sink);
    filled?;
    Ok(unmounted?)
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
