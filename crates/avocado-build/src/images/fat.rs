//! FAT file systems, for what firmware and boot loaders read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use avocado_backend::{Tool, ToolQuery};
use avocado_manifest::Digest;

use crate::error::{At as _, BuildError};
use crate::step_context::StepContext;

/// Makes the file system.
pub(crate) const MKFS: ToolQuery = ToolQuery {
    tool: "mkfs.fat",
    arguments: &["--help"],
};

/// Fills it, without a mount.
pub(crate) const MCOPY: ToolQuery = ToolQuery {
    tool: "mcopy",
    arguments: &["-V"],
};

/// A FAT file system to be made.
#[derive(Debug)]
pub(crate) struct FatSpec<'a> {
    /// Of its table, in bits.
    pub(crate) bits: u8,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) label: Option<&'a str>,
    /// Where each file goes, and where it is.
    pub(crate) files: Vec<(&'a str, PathBuf)>,
}

/// Writes the file system to `image`, which is on disk when this returns. The same files give the same
/// bytes: they come in the order of `spec`, with the time of the build.
pub(crate) fn write(
    context: &StepContext<'_>,
    spec: &FatSpec<'_>,
    image: &Path,
) -> Result<(), BuildError> {
    crate::trees::clear(image)?;
    let in_image = |path: &str| format!("::/{path}");
    let epoch = context.epoch.to_string();
    let mut make = Tool::new(MKFS.tool).args(["--invariant", "-F", &spec.bits.to_string()]);
    if let Some(label) = spec.label {
        make = make.args(["-n", label]);
    }
    // A number that follows from what it is of: two file systems of one disk should differ in it.
    let places: Vec<&str> = spec.files.iter().map(|(to, _)| *to).collect();
    let name = format!("{:?} {}", spec.label, places.join("\n"));
    let serial = Digest::of(name.as_bytes()).to_string();
    make.args(["-i", &serial[..8], "-C"])
        .arg(image)
        .arg((spec.size / 1024).to_string())
        .run(context.sink)?;
    let mut made = BTreeSet::new();
    for (to, from) in &spec.files {
        for directory in directories(to) {
            if made.insert(directory.to_owned()) {
                Tool::new("mmd")
                    .env("SOURCE_DATE_EPOCH", &epoch)
                    .arg("-i")
                    .arg(image)
                    .arg(in_image(directory))
                    .run(context.sink)?;
            }
        }
        Tool::new(MCOPY.tool)
            .env("SOURCE_DATE_EPOCH", &epoch)
            .arg("-i")
            .arg(image)
            .arg(from)
            .arg(in_image(to))
            .run(context.sink)?;
    }
    File::open(image)
        .and_then(|file| file.sync_all())
        .at("write", image)?;
    let size = fs::metadata(image).at("look at", image)?.len();
    if size == spec.size {
        return Ok(());
    }
    Err(BuildError::Invalid(format!(
        "{} came out with {size} bytes instead of {}",
        image.display(),
        spec.size
    )))
}

/// The directories above a path, the outermost first.
fn directories(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_is_in_them() {
        let of = |path| directories(path).collect::<Vec<_>>();
        assert_eq!(of("EFI/BOOT/BOOTX64.EFI"), ["EFI", "EFI/BOOT"]);
        assert!(of("Image").is_empty());
    }
}
