//! Images of whole disks: a partition table, and images at their places.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use avocado_backend::{Tool, ToolQuery};
use avocado_stone::{GptDisk, GptPartition};

use crate::error::{At as _, BuildError};
use crate::step_context::StepContext;

/// Writes the table.
pub(crate) const SFDISK: ToolQuery = ToolQuery {
    tool: "sfdisk",
    arguments: &["--version"],
};

/// How much is looked at at once, in bytes: what is all zero in that is a hole.
const CHUNK: usize = 64 << 10;

/// Writes the disk to `image`, which is on disk when this returns. `files` has the file of each image.
pub(crate) fn write(
    context: &StepContext<'_>,
    disk: &GptDisk,
    files: &[(&str, PathBuf)],
    image: &Path,
) -> Result<(), BuildError> {
    crate::trees::clear(image)?;
    for partition in &disk.partitions {
        if let Some(file) = file_of(partition, files) {
            fits(disk, partition, file)?;
        }
    }
    let made = File::create_new(image).at("create", image)?;
    made.set_len(disk.size).at("make room for", image)?;
    Tool::new(SFDISK.tool)
        .args(["--quiet", "--no-reread", "--no-tell-kernel"])
        .args(["--wipe", "never", "--wipe-partitions", "never"])
        .arg(image)
        .input(disk.table())
        .run(context.sink)?;
    for partition in &disk.partitions {
        if let Some(file) = file_of(partition, files) {
            let source = File::open(file).at("open", file)?;
            copy_with_holes(&source, &made, partition.offset).at("copy to the disk", file)?;
        }
    }
    made.sync_all().at("write", image)
}

fn file_of<'f>(partition: &GptPartition, files: &'f [(&str, PathBuf)]) -> Option<&'f Path> {
    let image = partition.image.as_deref()?;
    let found = files.iter().find(|(name, _)| *name == image);
    found.map(|(_, file)| file.as_path())
}

fn fits(disk: &GptDisk, partition: &GptPartition, file: &Path) -> Result<(), BuildError> {
    let size = fs::metadata(file).at("look at", file)?.len();
    if size <= partition.size {
        return Ok(());
    }
    let name = partition.name.as_ref();
    let name = name.map_or_else(
        || format!("the place at {} of the disk", partition.offset),
        |name| format!("the partition `{name}`"),
    );
    Err(BuildError::Invalid(format!(
        "{} has {size} bytes, and {name} of {} has {}: state a larger `size` for it in the stone manifest",
        file.display(),
        disk.file,
        partition.size
    )))
}

/// Copies what is left of `source` to its place in another file. Where that is zero nothing is written, so
/// what was a hole there stays one.
///
/// # Errors
/// When either cannot be used.
pub fn copy_with_holes(mut source: &File, image: &File, place: u64) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut done = 0;
    loop {
        let mut length = 0;
        while let Some(rest) = chunk.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match source.read(rest)? {
                0 => break,
                read => length += read,
            }
        }
        let bytes = chunk.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|byte| *byte != 0) {
            image.write_all_at(bytes, place + done)?;
        }
        done += length as u64;
    }
}
