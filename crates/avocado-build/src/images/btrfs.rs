//! The var partition: a btrfs with the published subvolume `lib/avocado`.

use std::fs;
use std::path::Path;

use avocado_backend::{LoopMounts, Tool, ToolQuery};
use walkdir::WalkDir;

use crate::error::{At as _, BuildError};
use crate::step_context::StepContext;
use crate::trees::{self, CopyModes, Tree};

pub(crate) const MKFS: ToolQuery = ToolQuery {
    tool: "mkfs.btrfs",
    arguments: &["--version"],
};

/// The subvolume that holds images and runtimes.
const SUBVOLUME: &str = "lib/avocado";

/// Writes the tree `root` to `image`.
pub(crate) fn write(
    context: &StepContext<'_>,
    root: &Path,
    image: &Path,
) -> Result<(), BuildError> {
    trees::clear(image)?;
    let version = Tool::new(MKFS.tool)
        .args(MKFS.arguments)
        .read(context.sink)?;
    if makes_subvolumes(&version) {
        let tool = Tool::new(MKFS.tool)
            .args(["--quiet", "--force", "--rootdir"])
            .arg(root);
        let tool = tool.args(["--subvol", &format!("rw:{SUBVOLUME}")]);
        return Ok(tool.arg(image).run(context.sink)?);
    }
    let Some(loop_mounts) = context.loop_mounts else {
        return Err(BuildError::VarImageNeedsRoot);
    };
    write_mounted(context, loop_mounts, root, image)
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

/// For btrfs-progs before 6.12, which cannot make subvolumes from a directory.
fn write_mounted(
    context: &StepContext<'_>,
    loop_mounts: &LoopMounts,
    root: &Path,
    image: &Path,
) -> Result<(), BuildError> {
    let file = fs::File::create(image).at("create", image)?;
    file.set_len(size_for(root)?).at("enlarge", image)?;
    drop(file);
    Tool::new(MKFS.tool)
        .args(["--quiet", "--force"])
        .arg(image)
        .run(context.sink)?;
    // Beside the image, so that two runtimes never share one.
    let point = image.with_extension("mount");
    trees::fresh(&point)?;
    let mount = loop_mounts.mount("btrfs", image, &point, context.sink)?;
    fill(context, root, &point)?;
    mount.unmount()?;
    trees::clear(&point)
}

fn fill(context: &StepContext<'_>, root: &Path, point: &Path) -> Result<(), BuildError> {
    let subvolume = point.join(SUBVOLUME);
    if let Some(parent) = subvolume.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    Tool::new("btrfs")
        .args(["subvolume", "create"])
        .arg(&subvolume)
        .run(context.sink)?;
    trees::copy(root, &Tree::open(point)?, Path::new(""), CopyModes::Keep)
}

/// Room for the content, for the file system's own structures, and to start working with.
fn size_for(root: &Path) -> Result<u64, BuildError> {
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
    fn there_is_room_for_the_content_of_all_files() {
        const MIB: u64 = 1 << 20;
        let root = tempfile::tempdir().unwrap();
        let empty = super::size_for(root.path()).unwrap();
        for (name, size) in [("a", 300 * MIB), ("b", 100 * MIB)] {
            let file = std::fs::File::create(root.path().join(name)).unwrap();
            file.set_len(size).unwrap();
        }
        let full = super::size_for(root.path()).unwrap();
        assert!(empty >= 256 * MIB && empty.is_multiple_of(MIB), "{empty}");
        assert!(full >= empty + 500 * MIB, "{full}");
    }

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
